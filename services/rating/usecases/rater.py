"""The standing loop that rates what is due."""

from __future__ import annotations

import asyncio

from libs.outbox import StepPace
from libs.outbox.pace import repeat
from services.rating.usecases.rate_asked_periods import RateAskedPeriods
from services.rating.usecases.rate_due_periods import RateDuePeriods

PACE = StepPace(shortest_s=0.05, longest_s=0.1)
"""Changes of a billing period within a rest are rated once. Short, because ingest has gathered them already."""


class Rater:
    """Rates at once when woken, and no subscription more often than every 50 to 100 ms.

    It also looks by itself, for marks of other processes and for periods that were set aside. What ingest has to be
    asked for is rated in a loop of its own.
    """

    def __init__(self, rate_due_periods: RateDuePeriods, rate_asked_periods: RateAskedPeriods) -> None:
        self._rate_due_periods = rate_due_periods
        self._rate_asked_periods = rate_asked_periods
        self.wake = asyncio.Event()
        """Set by whoever committed marks in this process."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Rate until `stopping` is set."""
        await repeat("rater", self._rate_due_periods, wake=self.wake, stopping=stopping, pace=PACE)

    async def run_asked(self, stopping: asyncio.Event) -> None:
        """Ask and rate until `stopping` is set."""
        step = self._rate_asked_periods
        await repeat("asking rater", step, wake=step.wake, stopping=stopping, pace=PACE)
