"""A log that is recorded, sealed and verified, straight to the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import asyncpg

from libs.database import Database
from services.ingest.store.log_reading import PostgresLogStore
from services.ingest.store.sealing import PostgresSealing
from services.ingest.usecases.log_ports import LogHead
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.seal_log import SealLog
from services.ingest.usecases.verify_log import LogRange, Progress, Reached, VerifyLog
from tests.component.ingest.builders import NOON, Event, a_batch, a_refusal

LATER = NOON + timedelta(days=1)
_FLOOR = """
INSERT INTO watermark_floor (stream_epoch, stream_seq, marked_at) VALUES ($1, 1, $2)
ON CONFLICT (only_row) DO UPDATE SET marked_at = excluded.marked_at
"""


class Log:
    """The sealed log of one tenant. The clock stands at NOON until it is moved."""

    def __init__(self, api: Database, worker: Database, tenant_id: str = "acme") -> None:
        self.store = PostgresLogStore(api)
        self.now = NOON
        self.test_times: Mapping[str, datetime] = {}
        self._tenant_id = tenant_id
        self._verify = VerifyLog(self.store)
        self._worker = worker
        self.limit_batches(1_000)

    def limit_batches(self, at_once: int) -> None:
        """Link so many per transaction."""
        self.sealing = PostgresSealing(self._worker, at_once)
        self.seal = SealLog(self.sealing, lambda: self.now, lambda: self.test_times, timedelta(hours=1))

    async def head(self) -> LogHead:
        return await self.store.head(self._tenant_id)

    async def verify(self, asked: LogRange | None = None) -> Progress:
        """All steps put together."""
        links = events = hours = unsettled = 0
        reached: Reached | None = None
        while True:
            step = await self._verify(self._tenant_id, asked or LogRange(), reached)
            links, events, hours = links + step.links, events + step.events, hours + step.hours
            unsettled += step.unsettled_hours
            if step.next is None:
                return Progress(links, events, hours, unsettled, step.difference)
            reached = step.next


async def move_watermark(owner: asyncpg.Connection, at: datetime) -> None:
    await owner.execute(_FLOOR, datetime(2026, 3, 1, tzinfo=UTC), at)


def logged(event_id: str, tokens: int = 5, hours: int = 0, customer_id: str = "cust-01") -> Event:
    return Event(event_id, {"tokens": str(tokens), "model": "small"}, customer_id, NOON + timedelta(hours=hours))


async def record_two_batches(record: RecordUsage) -> None:
    await record([a_batch(1, logged("a"), logged("b", 7), logged("c", 2), rejected=[a_refusal("r")])])
    await record([a_batch(2, logged("a"), logged("d", 1, customer_id="cust-02"), logged("b", 8))])
