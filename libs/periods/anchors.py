"""Series of instants that are whole intervals away from an anchor, and the periods between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from libs.periods.intervals import Interval, add_intervals, local_instant
from libs.periods.period import Period


@dataclass(frozen=True, slots=True)
class AnchorSeries:
    """The anchor (an instant in UTC) and what is whole multiples of `length` intervals before and after it.

    Local day of the month and local time are the anchor's; in months too short for the day it is the last one, and
    later members return to it, because each is computed from the anchor and none from the one before it.
    """

    anchor: datetime
    interval: Interval
    zone: ZoneInfo
    length: int = 1

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"members must be at least one interval apart: {self.length}")

    def at_index(self, index: int) -> datetime:
        """The member that is `index` steps after the anchor, before it if negative."""
        local = self.anchor.astimezone(self.zone)
        day = add_intervals(local.date(), self.interval, index * self.length, local.day)
        return local_instant(day, local.time(), self.zone)

    def index_at(self, instant: datetime) -> int:
        """The index of the last member that is not after an instant."""
        index = self._near(self.anchor.astimezone(self.zone).date(), instant.astimezone(self.zone).date()) + 1
        while self.at_index(index) > instant:
            index -= 1
        return index

    def first_after(self, instant: datetime) -> datetime:
        return self.at_index(self.index_at(instant) + 1)

    def period_at(self, instant: datetime) -> Period:
        """From the last member that is not after an instant to the next one."""
        return self.period_at_index(self.index_at(instant))

    def period_at_index(self, index: int) -> Period:
        return Period(self.at_index(index), self.at_index(index + 1))

    def starts(self, period: Period) -> Iterator[datetime]:
        """The member in force when a period starts, and those that lie in it."""
        for index in count(self.index_at(period.start)):
            if (member := self.at_index(index)) >= period.end:
                return
            yield member

    def _near(self, anchor: date, day: date) -> int:
        """The index of the member in the month of a day, or that would be in its days: the one after it is later."""
        if self.interval.months:
            months = (day.year - anchor.year) * 12 + day.month - anchor.month
            return months // (self.interval.months * self.length)
        return (day - anchor) // timedelta(days=self.interval.days * self.length)
