"""Rate what the queue holds, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.queue import DuePeriod
from services.rating.usecases.ports import OpenWork
from services.rating.usecases.rate_periods import RatedPeriods, rate_periods

CHUNK = 200
LEASE = timedelta(seconds=10)
_FIRST_RETRY = timedelta(seconds=1)
_LAST_RETRY = timedelta(minutes=5)


OnRated = Callable[[RatedPeriods, timedelta], None]
"""Told after each commit what was rated, and how long the longest waiting period was due."""


class RateDuePeriods:
    """Takes due billing periods from the queue and rates them set-wise, one chunk in one transaction.

    A period that cannot be rated is set aside with its reason and tried again later; the others go on. A mark that is
    set while its period is being rated keeps the period in the queue.
    """

    def __init__(self, open_work: OpenWork, clock: Clock, on_rated: OnRated) -> None:
        self._open_work = open_work
        self._clock = clock
        self._on_rated = on_rated

    async def __call__(self, due_by: datetime) -> bool:
        """Rate one chunk of what is due by an instant (real time); return whether there may be more."""
        async with self._open_work() as work:
            due = await work.queue.claim(due_by, self._clock() + LEASE, CHUNK)
        if due:
            rated = await retry_transient(lambda: self._rate(due))
            self._on_rated(rated, self._clock() - min(period.due_at for period in due))
        return len(due) == CHUNK

    async def _rate(self, due: Sequence[DuePeriod]) -> RatedPeriods:
        async with self._open_work(*{period.key.tenant_id for period in due}) as work:
            rated = await rate_periods(work, [period.key for period in due], self._clock)
            failed = [period for period in due if period.key in rated.problems]
            now = self._clock()
            await work.queue.set_aside({period.key: now + retry_delay(period.attempts + 1) for period in failed})
            await work.queue.finish([period for period in due if period.key not in rated.problems], now)
        return rated


def retry_delay(attempts: int) -> timedelta:
    """How long a period that failed that often waits: from a second, doubling, up to five minutes."""
    doublings: int = 1 << min(attempts - 1, 20)
    return min(_FIRST_RETRY * doublings, _LAST_RETRY)
