"""How many days lie in a span of time, by the conventions that billing systems have."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from libs.periods.zones import local_midnight

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)
# Clocks change by an hour or two; a zone that leaves out a day changes by about a day.
_DAY_LEFT_OUT = timedelta(hours=12)


class DayCount(StrEnum):
    """What counts as a day between two instants."""

    CALENDAR_DAYS = "calendar_days"
    """The default: local days of which the span has some part."""
    LOCAL_DATE_DIFFERENCE = "local_date_difference"
    """Local midnights that lie in it."""
    CEIL_LOCAL_ELAPSED = "ceil_local_elapsed"
    """What local clocks advance, rounded up to days; an end at midnight stands for the end of the day that begins."""
    DAYS_30_360 = "days_30_360"
    """Every month has 30 days; the 31st is the 30th."""


def count_days(start: datetime, end: datetime, zone: ZoneInfo, convention: DayCount = DayCount.CALENDAR_DAYS) -> int:
    """The days from `start` to `end`, both in UTC; 0 if `end` is not after `start`."""
    if end <= start:
        return 0
    match convention:
        case DayCount.CALENDAR_DAYS:
            return _calendar_days(start, end, zone)
        case DayCount.LOCAL_DATE_DIFFERENCE:
            return (end.astimezone(zone).date() - start.astimezone(zone).date()).days
        case DayCount.CEIL_LOCAL_ELAPSED:
            return _ceil_local_elapsed(start.astimezone(zone), end.astimezone(zone))
        case DayCount.DAYS_30_360:
            return _day_360(end.astimezone(zone)) - _day_360(start.astimezone(zone))


@lru_cache(maxsize=4096)
def _calendar_days(start: datetime, end: datetime, zone: ZoneInfo) -> int:
    """Days that the zone left out when it crossed the date line are no days: parts of a period add up to it."""
    first = start.astimezone(zone)
    last = (end - _INSTANT).astimezone(zone)
    days = (last.date() - first.date()).days + 1
    if _clocks_advance(first, last) - (last.astimezone(UTC) - first.astimezone(UTC)) < _DAY_LEFT_OUT:
        return days
    midnights = (local_midnight(first.date() + index * _DAY, zone) for index in range(days + 1))
    return len(set(midnights)) - 1


def _ceil_local_elapsed(start: datetime, end: datetime) -> int:
    if end.time() == time():
        end += _DAY
    return -(-_clocks_advance(start, end) // _DAY)


def _clocks_advance(start: datetime, end: datetime) -> timedelta:
    return end.replace(tzinfo=None) - start.replace(tzinfo=None)


def _day_360(local: datetime) -> int:
    return local.year * 360 + local.month * 30 + min(local.day, 30)
