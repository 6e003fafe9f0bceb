"""Rate a chunk of due billing periods in one transaction with their marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import Answers
from services.rating.domain.queue import DuePeriod, SetAside
from services.rating.usecases.ports import OpenWork, Work
from services.rating.usecases.rate_periods import RatedPeriods, rate_periods

_FIRST_RETRY = timedelta(seconds=1)
_LAST_RETRY = timedelta(minutes=5)

OnRated = Callable[[RatedPeriods, timedelta], None]
"""Told after each commit what was rated, and how long the longest waiting period was due."""


class RateChunk:
    """Takes the marks of billing periods and rates them set-wise.

    A period that cannot be rated is set aside with its reason and tried again later; the others go on. New usage does
    not heal an unknown card: its marks do not make a period that was set aside come earlier.
    """

    def __init__(self, open_work: OpenWork, clock: Clock, on_rated: OnRated) -> None:
        self._open_work = open_work
        self._clock = clock
        self._on_rated = on_rated

    async def __call__(self, due: Sequence[DuePeriod], answers: Answers, now: datetime) -> bool:
        """Rate those of which nobody else has taken the marks; return whether there were any.

        Periods that were set aside until after `now` rest, and `answers` are those of ingest to what was asked then.
        """
        if not due:
            return False
        rated = await retry_transient(lambda: self._rate(due, answers, now))
        if rated is None:
            return False
        self._on_rated(rated, self._clock() - min(period.due_at for period in due))
        return True

    async def _rate(self, due: Sequence[DuePeriod], answers: Answers, now: datetime) -> RatedPeriods | None:
        async with self._open_work(*{period.key.tenant_id for period in due}) as work:
            taken = await work.queue.take([mark for period in due for mark in period.marks])
            own = [period for period in due if not period.marks or not taken.isdisjoint(period.marks)]
            if not own:
                return None
            set_aside = await work.queue.set_aside([period.key for period in own])
            wanted = [period.key for period in own if not rests(period, set_aside, now)]
            rated = await rate_periods(work, wanted, self._clock, answers)
            await work.queue.forget([key for key in wanted if key in set_aside and key not in rated.problems])
            if rated.problems:
                attempts = {period.key: 0 if period.urgent else _attempts(set_aside, period.key) for period in own}
                await self._set_aside(work, {key: attempts[key] + 1 for key in rated.problems})
        return rated

    async def _set_aside(self, work: Work, attempts: Mapping[PeriodKey, int]) -> None:
        now = self._clock()
        await work.queue.retry_later(
            {key: SetAside(tried, now + retry_delay(tried)) for key, tried in attempts.items()}
        )


def rests(period: DuePeriod, set_aside: Mapping[PeriodKey, SetAside], now: datetime) -> bool:
    """Whether a period was set aside until later; not if what kept it from being rated may be gone."""
    return not period.urgent and period.key in set_aside and set_aside[period.key].due_at > now


def retry_delay(attempts: int) -> timedelta:
    """How long a period that failed that often waits: from a second, doubling, up to five minutes."""
    doublings: int = 1 << min(attempts - 1, 20)
    return min(_FIRST_RETRY * doublings, _LAST_RETRY)


def _attempts(set_aside: Mapping[PeriodKey, SetAside], key: PeriodKey) -> int:
    return set_aside[key].attempts if key in set_aside else 0
