"""When a subscription is billed next, by the conventions that billing systems have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from enum import StrEnum

from libs.periods.anchors import AnchorSeries
from libs.periods.intervals import DAYS_A_WEEK, Interval, add_intervals, anchor_in, local_instant
from libs.periods.period import Period


class NextDate(StrEnum):
    """How the next date follows from the current one."""

    ANCHOR_SERIES = "anchor_series"
    """The default: it is the next member of the series, so that every date depends on the anchor alone."""
    ADVANCE_THEN_ALIGN = "advance_then_align"
    """From the current local day whole intervals ahead, then to the anchor's place in the month, week or year. A day
    before its own month's anchor day has one interval less to go."""


def next_billing_date(
    current: datetime,
    series: AnchorSeries,
    convention: NextDate = NextDate.ANCHOR_SERIES,
    ends_at: datetime | None = None,
) -> datetime:
    """The next date after the current one, never later than the end of the subscription."""
    found = series.first_after(current) if convention is NextDate.ANCHOR_SERIES else _advanced(current, series)
    return found if ends_at is None else min(found, ends_at)


def billing_periods(
    span: Period, series: AnchorSeries, convention: NextDate = NextDate.ANCHOR_SERIES
) -> Iterator[Period]:
    """A span cut at every billing date; the parts add up to it."""
    start = span.start
    while start < span.end:
        end = next_billing_date(start, series, convention, span.end)
        yield Period(start, end)
        start = end


def _advanced(current: datetime, series: AnchorSeries) -> datetime:
    anchor = series.anchor.astimezone(series.zone)
    day = _aligned(current.astimezone(series.zone).date(), anchor.date(), series.interval, series.length)
    return local_instant(day, anchor.time(), series.zone)


def _aligned(today: date, anchor: date, interval: Interval, length: int) -> date:
    match interval:
        case Interval.DAY:
            return today + timedelta(days=length)
        case Interval.WEEK:
            ahead = (anchor.weekday() - today.weekday()) % DAYS_A_WEEK or DAYS_A_WEEK
            return today + timedelta(days=ahead + DAYS_A_WEEK * (length - 1))
        case Interval.YEAR:
            return anchor_in(today.year + length, anchor.month, anchor.day)
        case _:
            early = today < anchor_in(today.year, today.month, anchor.day)
            return add_intervals(today, interval, length - early, anchor.day)
