"""Rate the billing periods that are marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import Answers
from services.rating.domain.queue import DuePeriod, SetAside, due_periods
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.ports import OpenWork, Work
from services.rating.usecases.rate_periods import NOTHING_ASKED, RatedPeriods, rate_periods

MARKS_MAX = 5_000
CHUNK = 500
_FIRST_RETRY = timedelta(seconds=1)
_LAST_RETRY = timedelta(minutes=5)


OnRated = Callable[[RatedPeriods, timedelta], None]
"""Told after each commit what was rated, and how long the longest waiting period was due."""


class RateDuePeriods:
    """Takes marked billing periods from the queue and rates them set-wise, one chunk in one transaction.

    A period that cannot be rated is set aside with its reason and tried again later; the others go on. New usage does
    not heal an unknown card: its marks do not make a period that was set aside come earlier.
    """

    def __init__(self, open_work: OpenWork, ask_quantities: AskQuantities, clock: Clock, on_rated: OnRated) -> None:
        self._open_work = open_work
        self._ask_quantities = ask_quantities
        self._clock = clock
        self._on_rated = on_rated

    async def __call__(self) -> bool:
        """Rate what is due; return whether anything was."""
        worked, more = False, True
        while more:
            async with self._open_work() as work:
                marks = await work.queue.waiting(MARKS_MAX)
                retries = await work.queue.retries(self._clock(), CHUNK)
            due = due_periods(marks, retries)
            chunks = [due[first : first + CHUNK] for first in range(0, len(due), CHUNK)]
            outcomes = [rated for chunk in chunks for rated in await self._rate_chunk(chunk)]
            # What is marked meanwhile waits for the next pass, and is rated once then.
            more = len(marks) == MARKS_MAX and any(outcomes)
            worked |= any(outcomes)
        return worked

    async def _rate_chunk(self, due: Sequence[DuePeriod]) -> list[bool]:
        """Rate those first that need nothing of ingest, which may take its time or not answer."""
        # After the marks were read: what is asked now knows of the changes that made them.
        questions = await self._ask_quantities.questions([period.key for period in due])
        others = [period for period in due if period.key not in questions.wanted]
        outcomes = [await self._rate_all(others, NOTHING_ASKED)] if others else []
        if questions.wanted:
            asked = [period for period in due if period.key in questions.wanted]
            outcomes.append(await self._rate_all(asked, await self._ask_quantities(questions)))
        return outcomes

    async def _rate_all(self, due: Sequence[DuePeriod], answers: Answers) -> bool:
        rated = await retry_transient(lambda: self._rate(due, answers))
        if rated is None:
            return False
        self._on_rated(rated, self._clock() - min(period.due_at for period in due))
        return True

    async def _rate(self, due: Sequence[DuePeriod], answers: Answers) -> RatedPeriods | None:
        """Rate the periods of which nobody else has taken the marks; None if those are all."""
        async with self._open_work(*{period.key.tenant_id for period in due}) as work:
            taken = await work.queue.take([mark for period in due for mark in period.marks])
            own = [period for period in due if not period.marks or not taken.isdisjoint(period.marks)]
            if not own:
                return None
            set_aside = await work.queue.set_aside([period.key for period in own])
            now = self._clock()
            wanted = [
                period.key
                for period in own
                if period.urgent or period.key not in set_aside or set_aside[period.key].due_at <= now
            ]
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


def _attempts(set_aside: Mapping[PeriodKey, SetAside], key: PeriodKey) -> int:
    return set_aside[key].attempts if key in set_aside else 0


def retry_delay(attempts: int) -> timedelta:
    """How long a period that failed that often waits: from a second, doubling, up to five minutes."""
    doublings: int = 1 << min(attempts - 1, 20)
    return min(_FIRST_RETRY * doublings, _LAST_RETRY)
