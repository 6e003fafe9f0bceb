"""Intervals of billing, and local days and times that are whole intervals away."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

DAYS_A_WEEK = 7


class Interval(StrEnum):
    """How long a billing period is, on the calendar."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    HALF_YEAR = "half_year"
    YEAR = "year"

    @property
    def months(self) -> int:
        """Its length in months; 0 for intervals of days."""
        return _MONTHS.get(self, 0)

    @property
    def days(self) -> int:
        """Its length in days; 0 for intervals of months, which differ."""
        return _DAYS.get(self, 0)


_MONTHS = {Interval.MONTH: 1, Interval.QUARTER: 3, Interval.HALF_YEAR: 6, Interval.YEAR: 12}
_DAYS = {Interval.DAY: 1, Interval.WEEK: DAYS_A_WEEK}


def anchor_in(year: int, month: int, anchor_day: int) -> date:
    """The anchor day of a month; in one that is too short its last day."""
    return date(year, month, min(anchor_day, monthrange(year, month)[1]))


def add_months(day: date, months: int, anchor_day: int) -> date:
    """The anchor day of the month that is `months` (or, if negative, before) the month of `day`.

    Months that are too short give their last day, and the next ones the anchor day again: the 31st of January, the
    28th of February, the 31st of March.
    """
    at = day.year * 12 + day.month - 1 + months
    return anchor_in(at // 12, at % 12 + 1, anchor_day)


def add_intervals(day: date, interval: Interval, count: int, anchor_day: int) -> date:
    """`count` intervals after `day` (before it, if negative); months end up on the anchor day."""
    if interval.months:
        return add_months(day, count * interval.months, anchor_day)
    return day + timedelta(days=count * interval.days)


def local_instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    """When clocks of a zone show a time on a day, in UTC.

    A time that comes twice is its first one; one that clocks skip is as long after the change as it would have been
    (02:30 becomes 03:30).
    """
    return datetime.combine(day, at.replace(fold=0), tzinfo=zone).astimezone(UTC)
