"""Monthly billing periods in a customer's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from libs.errors import InvalidInput
from libs.periods.intervals import add_months, anchor_in
from libs.periods.period import Period
from libs.periods.zones import local_midnight


@dataclass(frozen=True, slots=True)
class BillingCycle:
    """Consecutive monthly periods from local midnight of `starts_on`, cut at local midnight of each anchor day.

    In a month too short for the anchor day the cut is its last day; later cuts return to the anchor day, because each
    is computed from the anchor and none from the one before it. The first period is shorter than a month if it does
    not start on the anchor day.

    :raises InvalidInput: OUT_OF_RANGE if the anchor day is not 1-31; NO_SUCH_LOCAL_DAY if the zone left that day out
    """

    starts_on: date
    anchor_day: int
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if not 1 <= self.anchor_day <= 31:
            raise InvalidInput.of("anchor_day", "OUT_OF_RANGE", f"must be 1 to 31, is {self.anchor_day}")
        if local_midnight(self.starts_on, self.zone) == local_midnight(self.starts_on + timedelta(days=1), self.zone):
            raise InvalidInput.of("starts_on", "NO_SUCH_LOCAL_DAY", f"{self.zone} had no day {self.starts_on}")

    @classmethod
    def anniversary(cls, starts_on: date, zone: ZoneInfo) -> BillingCycle:
        """Periods that begin on the day of the month on which the subscription started."""
        return cls(starts_on, starts_on.day, zone)

    @classmethod
    def calendar(cls, starts_on: date, zone: ZoneInfo) -> BillingCycle:
        """Local calendar months, the first one from the start date."""
        return cls(starts_on, 1, zone)

    def period_at_index(self, index: int) -> Period:
        """The period number `index`, from 0.

        :raises ValueError: if the index is negative
        """
        if index < 0:
            raise ValueError(f"period index must not be negative: {index}")
        return Period(self._cut(index), self._cut(index + 1))

    def whole_period_at_index(self, index: int) -> Period:
        """The period number `index` as it is between two anchor days: longer than the first one if that is short."""
        period = self.period_at_index(index)
        if index > 0:
            return period
        return Period(local_midnight(add_months(self._cut_day(1), -1, self.anchor_day), self.zone), period.end)

    def index_at(self, instant: datetime) -> int:
        """The index of the period that contains a UTC instant.

        :raises ValueError: if the instant is before the first period
        """
        if instant < self._cut(0):
            raise ValueError(f"{instant.isoformat()} is before the first period, which starts on {self.starts_on}")
        local_day = instant.astimezone(self.zone)
        months = (local_day.year - self.starts_on.year) * 12 + local_day.month - self.starts_on.month
        # Never too low: this month's cut if the subscription started before its anchor day, else the next one's, which
        # is in the past only while the last minutes of a month come again (Newfoundland, 1 November 2009).
        index = max(0, months + 1)
        while instant < self._cut(index):
            index -= 1
        return index

    def period_containing(self, instant: datetime) -> Period:
        """The period that contains a UTC instant.

        :raises ValueError: if the instant is before the first period
        """
        return self.period_at_index(self.index_at(instant))

    def _cut(self, index: int) -> datetime:
        return local_midnight(self._cut_day(index), self.zone)

    def _cut_day(self, index: int) -> date:
        if index == 0:
            return self.starts_on
        # The first cut falls into the starting month only if its anchor day is still to come.
        first_anchor = anchor_in(self.starts_on.year, self.starts_on.month, self.anchor_day)
        starts_before_anchor = self.starts_on < first_anchor
        return add_months(self.starts_on, index - starts_before_anchor, self.anchor_day)
