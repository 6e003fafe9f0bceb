"""A producer with the SDK's spool beside the one that the history watches call by call: what the queue loses of its
usage is repaired by the spool alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from libs.cli.demo.workload import EVENT_TYPE
from steelyard import Endpoints, UsageEvent
from steelyard.spool import Spool, SpoolOptions
from tests.faults.driver.history import OK, History
from tests.faults.driver.producer import INGEST
from tests.faults.driver.tenant_session import Stuck
from tests.faults.driver.workload import SOURCE, Batch, Event

# Acceptors that died with the queue show no gap: then a batch comes again after this time, in production 300 s.
_OPTIONS = SpoolOptions(commit_every_s=0.01, call_timeout_s=3.0, lease_s=5.0, resend_after_s=4.0)
_DRAINED_WITHIN_S = 60.0


class SpooledProducer:
    """One tenant's; its events are right and have ids of their own. They count as acknowledged when the spool says
    that all of them are recorded."""

    def __init__(
        self, tenant_id: str, api_key: str, endpoints: Endpoints, path: Path, calls: Sequence[Batch], history: History
    ) -> None:
        self._tenant_id = tenant_id
        found = {event.event_id: event for call in calls for event in call.events if not event.refused}
        self._events = [replace(event, event_id=f"spooled-{event.event_id}") for event in found.values()]
        self._history = history
        self._spool = Spool(path, api_key=api_key, endpoints=endpoints, source=SOURCE, options=_OPTIONS)
        self._op = 0

    async def send(self, *, lasting_s: float) -> None:
        """Record the events, spread over a time; the spool sends them."""
        self._op = self._history.invoke(
            INGEST, tenant=self._tenant_id, level="SPOOLED", events=[event.to_json() for event in self._events]
        )
        self._spool.start()
        for event in self._events:
            await self._spool.record_async(_of_sdk(event))
            await asyncio.sleep(lasting_s / len(self._events))

    async def drain(self) -> None:
        """Return when everything is recorded. Which batches it went in, only the spool knows.

        :raises Stuck: if that takes too long
        """
        if not await asyncio.to_thread(self._spool.drain, _DRAINED_WITHIN_S):
            raise Stuck(f"{self._tenant_id}: the spool is not empty: {self._spool.last_error or 'no error'}")
        verdicts = ["QUEUED"] * len(self._events)
        self._history.end(self._op, OK, INGEST, verdicts=verdicts, receipt=None)
        stats = await asyncio.to_thread(self._spool.stats)
        self._history.note("spool_empty", tenant=self._tenant_id, resent=stats.resent)

    async def close(self) -> None:
        """Stop sending; what is left stays in the file."""
        await asyncio.to_thread(self._spool.close)


def _of_sdk(event: Event) -> UsageEvent:
    return UsageEvent(
        event_type=EVENT_TYPE,
        customer_id=event.customer,
        properties={"input_tokens": event.input_tokens, "output_tokens": event.output_tokens},
        event_id=event.event_id,
        event_time=event.at,
        source=SOURCE,
    )
