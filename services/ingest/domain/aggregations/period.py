"""The time that an aggregation is of, and the local days in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from libs.periods import WINDOW

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTC = ZoneInfo("UTC")
_WINDOW_NS = WINDOW // timedelta(microseconds=1) * 1_000


@dataclass(frozen=True, slots=True)
class AggregationPeriod:
    """The instants from `start_ns` up to but not including `end_ns`, in nanoseconds since 1970.

    `full_days` is the number of days of the whole billing period where this is a part of it, for what is prorated;
    None if this is the whole. `zone` is the customer's.

    :raises ValueError: if it would hold no instant, or no day
    """

    start_ns: int
    end_ns: int
    zone: ZoneInfo = _UTC
    full_days: int | None = None

    def __post_init__(self) -> None:
        if self.start_ns >= self.end_ns:
            raise ValueError(f"a period must end after its start: {self.start_ns} - {self.end_ns}")
        if self.full_days is not None and self.full_days < 1:
            raise ValueError(f"a billing period has at least one day, not {self.full_days}")

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def days(self) -> range:
        """The local days that it touches, as ordinals."""
        return range(local_day(self.start_ns, self.zone), local_day(self.end_ns - 1, self.zone) + 1)

    @property
    def day_count(self) -> int:
        """Days of the billing period."""
        return len(self.days) if self.full_days is None else self.full_days


def to_datetime(time_ns: int) -> datetime:
    """The instant, without what is less than a microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)


def local_day(time_ns: int, zone: ZoneInfo) -> int:
    """The ordinal (`date.toordinal`) of the local day that holds an instant."""
    return _day_of_window(time_ns // _WINDOW_NS, zone)


@lru_cache(maxsize=1 << 16)
def _day_of_window(number: int, zone: ZoneInfo) -> int:
    """All of a usage window lies in one local day (see `libs.periods.WINDOW`), and converting is what takes time."""
    local: date = (_EPOCH + number * WINDOW).astimezone(zone).date()
    return local.toordinal()
