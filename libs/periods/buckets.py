"""Cutting a period at local boundaries, for reports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from libs.periods.period import WINDOW, Period, window_start
from libs.periods.zones import local_midnight


class BucketSize(StrEnum):
    QUARTER_HOUR = "quarter_hour"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    """From Monday."""
    MONTH = "month"


def buckets(period: Period, size: BucketSize, zone: ZoneInfo) -> tuple[Period, ...]:
    """The period cut wherever a local unit of `size` begins; the parts add up to the period, in order.

    Days have 23 to 25 hours where clocks change. Hours begin where local clocks show a full hour, and where they are
    changed, so that an hour that is repeated is two buckets. All cuts are starts of usage windows: a change inside a
    window (Newfoundland changed its clocks at 00:01 until 2011) cuts at that window's end.
    """
    if size in {BucketSize.QUARTER_HOUR, BucketSize.HOUR}:
        cuts = _window_cuts(period, size, zone)
    else:
        cuts = _day_cuts(period, size, zone)
    return tuple(Period(start, end) for start, end in pairwise([period.start, *cuts, period.end]))


def _window_cuts(period: Period, size: BucketSize, zone: ZoneInfo) -> Iterator[datetime]:
    at = period.start
    local = at.astimezone(zone)
    while (at := window_start(at) + WINDOW) < period.end:
        before, local = local, at.astimezone(zone)
        if size is BucketSize.QUARTER_HOUR or local.hour != before.hour or local.utcoffset() != before.utcoffset():
            yield at


def _day_cuts(period: Period, size: BucketSize, zone: ZoneInfo) -> Iterator[datetime]:
    last, day = period.start, period.start.astimezone(zone).date()
    while (cut := local_midnight(day := _next_day(day, size), zone)) < period.end:
        # Not later: the day was left out by its zone, or a repeated midnight lies before the start of the period.
        if cut > last:
            yield cut
            last = cut


def _next_day(day: date, size: BucketSize) -> date:
    """The first day of the next unit."""
    if size is BucketSize.DAY:
        return day + timedelta(days=1)
    if size is BucketSize.WEEK:
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
