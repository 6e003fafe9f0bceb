"""Find usage that producers meant to send and did not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from libs.clock import Clock
from libs.database import is_outage, retry_transient
from services.ingest.usecases.standing_work import repeat

_logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_TENANTS_AT_ONCE = 100
_MANIFESTS_AT_ONCE = 10


class MissingUsage(Protocol):
    async def take_turn(self, now: datetime) -> Sequence[str]:
        """Return the tenants to look at, or nobody if it is another process's turn."""

    async def search(self, tenant_ids: Sequence[str], now: datetime, test_times: Mapping[str, datetime]) -> int:
        """Open and end findings about numbers and silence, and commit; return how many were opened."""

    async def compare(self, tenant_ids: Sequence[str], now: datetime, test_times: Mapping[str, datetime]) -> bool:
        """Compare a manifest that is due with the log, and commit; return whether there was one."""


class FindMissingUsage:
    """Looks at the tenants that have something to look at, many at a time. Two at once do no harm: a finding is unique
    by what it is about."""

    def __init__(
        self, missing_usage: MissingUsage, clock: Clock, test_times: Callable[[], Mapping[str, datetime]]
    ) -> None:
        self._missing_usage = missing_usage
        self._clock = clock
        self._test_times = test_times

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every second until `stopping` is set."""

        async def work() -> float:
            await retry_transient(self)
            return _EVERY_S

        await repeat("missing usage", work, stopping)

    async def __call__(self) -> int:
        """Look once; return how many findings about numbers and silence were opened."""
        opened = 0
        tenants = await self._missing_usage.take_turn(self._clock())
        for start in range(0, len(tenants), _TENANTS_AT_ONCE):
            chunk, times = tenants[start : start + _TENANTS_AT_ONCE], self._test_times()
            found = await self._search(chunk, times)
            if found:
                _logger.warning("%d new findings of missing usage", found)
            opened += found
            for _ in range(_MANIFESTS_AT_ONCE):
                if not await self._missing_usage.compare(chunk, self._clock(), times):
                    break
        return opened

    async def _search(self, tenants: Sequence[str], times: Mapping[str, datetime]) -> int:
        """What fails for one tenant does not keep the others from being looked at."""
        try:
            return await self._missing_usage.search(tenants, self._clock(), times)
        except Exception as error:
            if is_outage(error):
                raise
            if len(tenants) == 1:
                _logger.exception("missing usage of %s is not searched for", tenants[0])
                return 0
        middle = len(tenants) // 2
        return await self._search(tenants[:middle], times) + await self._search(tenants[middle:], times)
