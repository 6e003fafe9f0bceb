"""A span of time and the 15-minute grid on which usage is summed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.clock import require_utc

WINDOW = timedelta(minutes=15)
"""Length of a usage window.

The offset of every IANA zone has been a multiple of it since October 1979 (the Line Islands came last), so from then
on every local midnight is the start of a window.
"""


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """The instants from `start` up to but not including `end`, both aware and in UTC.

    :raises ValueError: if an edge is not in UTC, or the period would hold no instant
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if require_utc(self.start) >= require_utc(self.end):
            raise ValueError(f"a period must end after its start: {self.start.isoformat()} - {self.end.isoformat()}")

    def contains(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlaps(self, other: Period) -> bool:
        return self.start < other.end and other.start < self.end

    def intersection(self, other: Period) -> Period | None:
        """The instants in both, or None if there are none."""
        if not self.overlaps(other):
            return None
        return Period(max(self.start, other.start), min(self.end, other.end))


def window_start(at: datetime) -> datetime:
    """The start of the usage window that holds the UTC instant `at`."""
    return at.replace(minute=at.minute - at.minute % 15, second=0, microsecond=0)


def is_window_aligned(at: datetime) -> bool:
    """Whether a usage window starts at the UTC instant `at`."""
    return at == window_start(at)
