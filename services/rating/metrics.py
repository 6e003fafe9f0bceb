"""What rating measures about itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from libs.clock import Clock
from libs.telemetry import meter
from services.rating.usecases.rate_periods import RatedPeriods


class RatingMetrics:
    """Instruments of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        rating = meter("steelyard.rating")
        self._lag = rating.histogram(
            "steelyard.rating.lag", unit="s", description="Longest time that a rated period of a chunk was due."
        )
        self._charges = rating.counter(
            "steelyard.rating.charges.updated", unit="{charge}", description="Charges whose content changed."
        )
        self._failed = rating.counter(
            "steelyard.rating.periods.failed",
            unit="{period}",
            description="Attempts to rate a billing period that failed.",
            labels=("reason",),
        )
        self._watermark_lag = rating.gauge(
            "steelyard.rating.watermark.lag", unit="s", description="Age of the watermark that was passed on last."
        )

    def rated(self, rated: RatedPeriods) -> None:
        """Count what a transaction has rated."""
        self._charges.add(rated.changed_count)
        for problem in rated.problems.values():
            self._failed.add(1, problem.reason)

    def waited(self, waited: timedelta) -> None:
        """Record how long a chunk was due."""
        self._lag.record(waited.total_seconds())

    def forwarded(self, watermark_at: datetime) -> None:
        """Record how old a watermark was when it was passed on."""
        self._watermark_lag.set((self._clock() - watermark_at).total_seconds())
