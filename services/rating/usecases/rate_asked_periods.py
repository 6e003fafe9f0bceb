"""Rate the due billing periods for which ingest has to be asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import Questions
from services.rating.domain.queue import DuePeriod
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.rate_chunk import RateChunk

_CHUNKS_MAX = 10
"""That wait here; the marks of all others wait in their queue."""


class _Asking(NamedTuple):
    due: Sequence[DuePeriod]
    questions: Questions
    looked_at: datetime


class RateAskedPeriods:
    """Asks and then rates, beside the passes over the queue: periods without a question do not wait for ingest.

    Their marks stay in the queue until they are rated, so that nothing is lost with this process.
    """

    def __init__(self, ask_quantities: AskQuantities, rate_chunk: RateChunk) -> None:
        self._ask_quantities = ask_quantities
        self._rate_chunk = rate_chunk
        self._waiting: deque[_Asking] = deque()
        self._in_hand: set[PeriodKey] = set()
        self.wake = asyncio.Event()
        """Set when there is something to ask."""

    def has(self, key: PeriodKey) -> bool:
        """Whether a period waits here or is being asked for."""
        return key in self._in_hand

    def take_over(self, due: Sequence[DuePeriod], questions: Questions, looked_at: datetime) -> None:
        """Have the periods rated after asking; does nothing if too many are waiting, and a later pass brings them."""
        if len(self._waiting) < _CHUNKS_MAX:
            self._waiting.append(_Asking(due, questions, looked_at))
            self._in_hand.update(period.key for period in due)
            self.wake.set()

    async def __call__(self) -> bool:
        """Rate what waits; return whether anything was rated."""
        worked = False
        while self._waiting:
            asking = self._waiting.popleft()
            try:
                answers = await self._ask_quantities(asking.questions)
                worked |= await self._rate_chunk(asking.due, answers, asking.looked_at)
            finally:
                self._in_hand.difference_update(period.key for period in asking.due)
        return worked
