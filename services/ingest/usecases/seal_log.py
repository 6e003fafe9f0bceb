"""Seal the log: link what was recorded, and seal hours that are over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from libs.clock import Clock
from libs.database import is_outage, retry_transient
from services.ingest.domain.log_chain import hour_of
from services.ingest.usecases.standing_work import repeat

_logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_NOTHING_DUE = datetime(1970, 1, 1, tzinfo=UTC)


class Sealing(Protocol):
    async def watermark(self) -> datetime | None:
        """Everything acknowledged before it is recorded; None while that is unknown."""

    async def tenants(self, due: datetime, due_of: Mapping[str, datetime]) -> Sequence[str]:
        """Return the tenants that have something to link or to seal; `due_of` are those on test clocks."""

    async def seal(self, tenant_id: str, due: datetime, now: datetime) -> bool:
        """Do a part of it in one transaction: link batches, seal hours that changed, seal hours before `due`.

        Return whether there is more to do. Whoever else is sealing the tenant makes this do nothing.
        """


class SealLog:
    """Seals what there is, tenant by tenant, a transaction each; several processes may.

    An hour is due when the watermark has passed it by the allowance: what was acknowledged in time is in it. On a test
    clock it is due by that clock, once the watermark has passed the moment at which that time was seen.
    """

    def __init__(
        self, sealing: Sealing, clock: Clock, test_times: Callable[[], Mapping[str, datetime]], allowance: timedelta
    ) -> None:
        self._sealing = sealing
        self._clock = clock
        self._test_times = test_times
        self._allowance = allowance
        self._seen: dict[str, tuple[datetime, datetime]] = {}
        self._passed: dict[str, datetime] = {}

    async def run(self, stopping: asyncio.Event, knows_clocks: asyncio.Event) -> None:
        """Seal every second until `stopping` is set; not before the test clocks are known."""
        await _first_of(stopping, knows_clocks)

        async def work() -> float:
            await self()
            return _EVERY_S

        await repeat("sealer", work, stopping)

    async def __call__(self) -> None:
        """Seal what there is now."""
        watermark = await self._sealing.watermark()
        due = _NOTHING_DUE if watermark is None else self._due(watermark)
        due_of = self._due_by_test_clocks(watermark)
        waiting = await self._sealing.tenants(due, due_of)
        while waiting:  # One transaction each, so that no tenant waits for all of another's.
            waiting = [tenant_id for tenant_id in waiting if await self._seal(tenant_id, due_of.get(tenant_id, due))]

    async def _seal(self, tenant_id: str, due: datetime) -> bool:
        """Return whether there is more to do. What fails for one tenant does not keep the others from being sealed."""
        try:
            return await retry_transient(partial(self._sealing.seal, tenant_id, due, self._clock()))
        except Exception as error:
            if is_outage(error):
                raise
            _logger.exception("the log of %s is not sealed", tenant_id)
            return False

    def _due_by_test_clocks(self, watermark: datetime | None) -> dict[str, datetime]:
        times = self._test_times()
        for tenant_id, at in times.items():
            seen = self._seen.get(tenant_id)
            if seen is None or seen[0] != at:
                seen = self._seen[tenant_id] = (at, self._clock())
            if watermark is not None and watermark > seen[1]:
                self._passed[tenant_id] = at
        passed = self._passed
        return {tenant_id: self._due(passed[tenant_id]) if tenant_id in passed else _NOTHING_DUE for tenant_id in times}

    def _due(self, at: datetime) -> datetime:
        return hour_of(at - self._allowance)


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
