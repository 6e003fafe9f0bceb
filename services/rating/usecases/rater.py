"""The standing loop that rates what is due."""

from __future__ import annotations

import asyncio
import logging

from libs.clock import Clock, monotonic_s
from libs.database import is_outage
from services.rating.usecases.rate_due_periods import RateDuePeriods

_logger = logging.getLogger(__name__)

_PACE_S = 0.1
_LOOK_AGAIN_S = 0.25
_AFTER_OUTAGE_S = 1.0


class Rater:
    """Rates at once when woken, and no subscription more often than every 100 ms.

    It also looks by itself, for marks of other processes, for periods that were set aside, and for those that a rater
    which died had claimed.
    """

    def __init__(self, rate_due_periods: RateDuePeriods, clock: Clock) -> None:
        self._rate_due_periods = rate_due_periods
        self._clock = clock
        self.wake = asyncio.Event()
        """Set by whoever committed marks in this process."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Rate until `stopping` is set."""
        while not stopping.is_set():
            self.wake.clear()  # Before the pass, so that a wake in its middle is not lost.
            started_s = monotonic_s()
            rest_s = _PACE_S
            try:
                await self._rate_all()
            except Exception as error:
                if not is_outage(error):
                    raise
                _logger.warning("rating waits for PostgreSQL", exc_info=True)
                rest_s = _AFTER_OUTAGE_S
            await first_of(rest_s - (monotonic_s() - started_s), stopping)
            await first_of(_LOOK_AGAIN_S, self.wake, stopping)

    async def _rate_all(self) -> None:
        due_by = self._clock()  # What becomes due during this pass waits for the next one.
        while await self._rate_due_periods(due_by):
            pass


async def first_of(timeout_s: float, *events: asyncio.Event) -> None:
    """Return when one of the events is set, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=max(timeout_s, 0), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
