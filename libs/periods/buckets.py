"""Cutting a period at local boundaries, for reports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from libs.periods.intervals import anchor_in
from libs.periods.period import WINDOW, Period, window_start
from libs.periods.zones import local_midnight

_MINUTE = timedelta(minutes=1)


class BucketSize(StrEnum):
    MINUTE = "minute"
    QUARTER_HOUR = "quarter_hour"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    """From Monday."""
    MONTH = "month"
    BILLING_PERIOD = "billing_period"
    """From the anchor day of each month, where `BillingCycle` cuts."""


def buckets(period: Period, size: BucketSize, zone: ZoneInfo, *, anchor_day: int = 1) -> tuple[Period, ...]:
    """The period cut wherever a local unit of `size` begins; the parts add up to the period, in order.

    Days have 23 to 25 hours where clocks change. Hours begin where local clocks show a full hour, and where they are
    changed, so that an hour that is repeated is two buckets. All cuts but those of minutes are starts of usage windows:
    a change inside a window (Newfoundland changed its clocks at 00:01 until 2011) cuts at that window's end.

    `anchor_day` is the day of the month (1 to 31, the last one in shorter months) on which billing periods begin.
    """
    if size is BucketSize.MINUTE:
        cuts = _even_cuts(period, period.start.replace(second=0, microsecond=0), _MINUTE)
    elif size is BucketSize.QUARTER_HOUR:
        cuts = _even_cuts(period, window_start(period.start), WINDOW)
    elif size is BucketSize.HOUR:
        cuts = _hour_cuts(period, zone)
    else:
        cuts = _day_cuts(period, size, zone, anchor_day)
    return tuple(Period(start, end) for start, end in pairwise([period.start, *cuts, period.end]))


def _even_cuts(period: Period, at: datetime, length: timedelta) -> Iterator[datetime]:
    """The same in every zone: their offsets are whole quarters of an hour."""
    while (at := at + length) < period.end:
        yield at


def _hour_cuts(period: Period, zone: ZoneInfo) -> Iterator[datetime]:
    at = period.start
    local = at.astimezone(zone)
    while (at := window_start(at) + WINDOW) < period.end:
        before, local = local, at.astimezone(zone)
        if local.hour != before.hour or local.utcoffset() != before.utcoffset():
            yield at


def _day_cuts(period: Period, size: BucketSize, zone: ZoneInfo, anchor_day: int) -> Iterator[datetime]:
    last, day = period.start, period.start.astimezone(zone).date()
    while (cut := local_midnight(day := _next_day(day, size, anchor_day), zone)) < period.end:
        # Not later: the day was left out by its zone, or a repeated midnight lies before the start of the period.
        if cut > last:
            yield cut
            last = cut


def _next_day(day: date, size: BucketSize, anchor_day: int) -> date:
    """The first day of the next unit."""
    if size is BucketSize.DAY:
        return day + timedelta(days=1)
    if size is BucketSize.WEEK:
        return day + timedelta(days=7 - day.weekday())
    first = anchor_day if size is BucketSize.BILLING_PERIOD else 1
    if (anchor := anchor_in(day.year, day.month, first)) > day:
        return anchor
    following = day.replace(day=1) + timedelta(days=32)
    return anchor_in(following.year, following.month, first)
