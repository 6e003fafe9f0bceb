"""What rating measures about itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


class ChargeStreamMetrics:
    """Instruments of the streams of charges of one process."""

    def __init__(self) -> None:
        rating = meter("steelyard.rating")
        self._open = rating.gauge(
            "steelyard.rating.charge_streams.open", unit="{stream}", description="Streams of charges that are open."
        )
        self._sent = rating.counter(
            "steelyard.rating.charge_streams.messages",
            unit="{message}",
            description="Messages sent on streams of charges.",
            labels=("kind",),
        )
        self._count = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Count a stream while the block runs."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def sent(self, kind: str) -> None:
        """Count a message: a snapshot, changes or a heartbeat."""
        self._sent.add(1, kind)

    def _change(self, by: int) -> None:
        self._count += by
        self._open.set(self._count)
