"""Anchors, next billing dates, and the periods between them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.periods import (
    AnchorSeries,
    BillingCycle,
    Interval,
    NextDate,
    Period,
    add_months,
    billing_periods,
    local_midnight,
    next_billing_date,
)
from tests.unit.libs.periods.zones import BERLIN, days, instants, utc, zones

UTC_ZONE = ZoneInfo("UTC")
intervals = st.sampled_from(Interval)


@given(instants, instants, intervals, st.integers(1, 5), zones)
def test_every_instant_lies_in_the_period_of_its_series(
    anchor: datetime, at: datetime, interval: Interval, length: int, zone: ZoneInfo
) -> None:
    series = AnchorSeries(anchor, interval, zone, length)
    index = series.index_at(at)

    assert series.at_index(index) <= at < series.at_index(index + 1)
    assert series.period_at(at).contains(at)
    assert series.first_after(at) == series.period_at(at).end


@given(days, zones, st.integers(0, 40))
def test_a_series_of_months_is_the_billing_cycle(starts_on: date, zone: ZoneInfo, index: int) -> None:
    midnight = local_midnight(starts_on, zone)
    if midnight.astimezone(zone).replace(tzinfo=None) != datetime(starts_on.year, starts_on.month, starts_on.day):  # noqa: DTZ001
        return  # A day without midnight: its series is that of another time.
    cycle, series = BillingCycle.anniversary(starts_on, zone), AnchorSeries(midnight, Interval.MONTH, zone)

    assert cycle.period_at_index(index) == series.period_at_index(index)


@given(instants, st.timedeltas(timedelta(minutes=1), timedelta(days=900)), instants, zones, st.data())
def test_periods_add_up_to_their_span(
    start: datetime, length: timedelta, anchor: datetime, zone: ZoneInfo, data: st.DataObject
) -> None:
    interval = data.draw(st.sampled_from([Interval.WEEK, Interval.MONTH, Interval.QUARTER, Interval.YEAR]))
    convention = data.draw(st.sampled_from(NextDate))
    span = Period(start, start + length)

    found = list(billing_periods(span, AnchorSeries(anchor, interval, zone), convention))

    assert (found[0].start, found[-1].end) == (span.start, span.end)
    assert all(before.end == after.start for before, after in pairwise(found))


class TestNextBillingDate:
    @pytest.mark.parametrize(
        ("current", "anchor", "interval", "count", "series", "aligned"),
        [
            ("2026-01-31T08:00", "2026-01-31T08:00", "month", 1, "2026-02-28T08:00", "2026-02-28T08:00"),
            ("2026-02-28T08:00", "2026-01-31T08:00", "month", 1, "2026-03-31T07:00", "2026-03-31T07:00"),
            ("2026-01-10T00:00", "2026-01-15T00:00", "month", 1, "2026-01-15T00:00", "2026-01-15T00:00"),
            ("2026-01-10T00:00", "2025-12-15T00:00", "month", 2, "2026-02-15T00:00", "2026-02-15T00:00"),
            ("2026-01-10T00:00", "2026-01-15T00:00", "month", 2, "2026-01-15T00:00", "2026-02-15T00:00"),
            ("2026-01-10T00:00", "2026-02-20T00:00", "quarter", 1, "2026-02-20T00:00", "2026-01-20T00:00"),
            ("2024-01-15T00:00", "2024-02-29T00:00", "year", 1, "2024-02-29T00:00", "2025-02-28T00:00"),
            ("2026-03-28T09:00", "2026-03-02T09:00", "day", 1, "2026-03-29T08:00", "2026-03-29T08:00"),
            ("2026-03-28T09:00", "2026-03-02T09:00", "week", 1, "2026-03-30T08:00", "2026-03-30T08:00"),
        ],
        ids=str,
    )
    def test_conventions(self, current: str, anchor: str, interval: str, count: int, series: str, aligned: str) -> None:
        of = AnchorSeries(utc(anchor), Interval(interval), BERLIN, count)

        assert next_billing_date(utc(current), of) == utc(series)
        assert next_billing_date(utc(current), of, NextDate.ADVANCE_THEN_ALIGN) == utc(aligned)

    def test_is_never_after_the_end(self) -> None:
        series = AnchorSeries(utc("2026-01-01T00:00"), Interval.MONTH, UTC_ZONE)
        at, end = utc("2026-01-01T00:00"), utc("2026-01-20T00:00")

        assert next_billing_date(at, series, ends_at=end) == end
        assert next_billing_date(at, series, ends_at=utc("2026-03-01T00:00")) == utc("2026-02-01T00:00")


def test_a_time_that_clocks_skip_is_as_long_after_the_change() -> None:
    series = AnchorSeries(utc("2026-02-28T01:30"), Interval.DAY, BERLIN)  # 02:30 in Berlin, which 29 March has not.

    assert series.at_index(29) == utc("2026-03-29T01:30")
    assert series.at_index(30) == utc("2026-03-30T00:30")


def test_a_series_needs_a_length() -> None:
    with pytest.raises(ValueError, match="at least one"):
        AnchorSeries(utc("2026-02-28T01:30"), Interval.DAY, BERLIN, 0)


@pytest.mark.parametrize(
    ("day", "months", "anchor_day", "expected"),
    [
        ("2026-01-31", 1, 31, "2026-02-28"),
        ("2026-02-28", 1, 31, "2026-03-31"),
        ("2026-03-31", -1, 31, "2026-02-28"),
        ("2026-01-15", -13, 15, "2024-12-15"),
        ("2027-12-31", 2, 30, "2028-02-29"),
    ],
)
def test_months_end_on_their_anchor_day(day: str, months: int, anchor_day: int, expected: str) -> None:
    assert str(add_months(date.fromisoformat(day), months, anchor_day)) == expected
