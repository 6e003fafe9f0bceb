"""Rate the billing periods that are marked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.queue import DuePeriod, due_periods
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.ports import OpenWork
from services.rating.usecases.rate_asked_periods import RateAskedPeriods
from services.rating.usecases.rate_chunk import RateChunk, rests
from services.rating.usecases.rate_periods import NOTHING_ASKED

MARKS_MAX = 5_000
CHUNK = 500


class RateDuePeriods:
    """Goes through the queue of marked billing periods and rates them in chunks.

    Periods with prices on meters whose windows do not add up are left to `RateAskedPeriods`.
    """

    def __init__(
        self,
        open_work: OpenWork,
        rate_chunk: RateChunk,
        ask_quantities: AskQuantities,
        rate_asked_periods: RateAskedPeriods,
        clock: Clock,
    ) -> None:
        self._open_work = open_work
        self._rate_chunk = rate_chunk
        self._ask_quantities = ask_quantities
        self._rate_asked_periods = rate_asked_periods
        self._clock = clock

    async def __call__(self) -> bool:
        """Rate what is due, but for what has to be asked; return whether anything was."""
        worked, seen_through = False, 0
        while True:
            async with self._open_work() as work:
                marks = await work.queue.waiting(MARKS_MAX, seen_through)
                retries = await work.queue.retries(self._clock(), CHUNK)
            due = [period for period in due_periods(marks, retries) if not self._rate_asked_periods.has(period.key)]
            any_rated = False
            for first in range(0, len(due), CHUNK):
                any_rated |= await self._rate(due[first : first + CHUNK])
            worked |= any_rated
            # What is marked meanwhile waits for the next pass, and is rated once then.
            if len(marks) < MARKS_MAX:
                return worked
            if not any_rated:
                seen_through = marks[-1].number  # Others work on these.

    async def _rate(self, due: Sequence[DuePeriod]) -> bool:
        now = self._clock()
        # After the marks were read: what is asked now knows of the changes that made them.
        questions = await retry_transient(partial(self._ask_quantities.questions, [period.key for period in due]))
        if questions.wanted:
            concerned = [period for period in due if period.key in questions.wanted]
            resting = await self._resting(concerned, now)
            self._rate_asked_periods.take_over(
                [period for period in concerned if period.key not in resting], questions.without(resting), now
            )
            due = [period for period in due if period.key not in questions.wanted or period.key in resting]
        return await self._rate_chunk(due, NOTHING_ASKED, now)

    async def _resting(self, due: Sequence[DuePeriod], now: datetime) -> set[PeriodKey]:
        """Those that were set aside until later."""
        async with self._open_work(*{period.key.tenant_id for period in due}) as work:
            set_aside = await work.queue.set_aside([period.key for period in due])
        return {period.key for period in due if rests(period, set_aside, now)}
