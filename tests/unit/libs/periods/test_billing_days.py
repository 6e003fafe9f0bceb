"""Periods that are cut on a day of the month."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.periods import BilledWhen, BillingDays, Interval, LeadingBase, period_in_advance, period_in_arrears

DAY = timedelta(days=1)
months = st.sampled_from([Interval.MONTH, Interval.QUARTER, Interval.HALF_YEAR, Interval.YEAR])
starts = st.dates(date(1990, 1, 1), date(2080, 1, 1))
billing_days = st.integers(1, 31)


def day(text: str) -> date:
    return date.fromisoformat(text)


def of(starts_on: str, billing_day: int, interval: Interval = Interval.MONTH) -> BillingDays:
    return BillingDays(day(starts_on), interval, billing_day)


@given(starts, months, billing_days)
def test_periods_follow_each_other(starts_on: date, interval: Interval, billing_day: int) -> None:
    given_days = BillingDays(starts_on, interval, billing_day)
    periods = list(islice(given_days.periods(), 6))

    assert periods[0].start == starts_on
    assert all(before.end == after.start for before, after in pairwise(periods))
    assert all(period.days > 0 for period in periods)
    assert [given_days.completed(period.end) for period in periods] == [1, 2, 3, 4, 5, 6]
    assert given_days.completed(periods[2].end - DAY) == 2


@given(starts, months, billing_days, st.integers(0, 900), st.sampled_from(LeadingBase))
def test_what_is_billed_in_arrears_by_the_end_is_all_of_the_time(
    starts_on: date, interval: Interval, billing_day: int, length: int, leading: LeadingBase
) -> None:
    ends_on = starts_on + length * DAY
    given_days = BillingDays(starts_on, interval, billing_day)

    arrears = list(given_days.parts_billed(ends_on, ends_on, BilledWhen.ARREARS, leading))

    assert sum(part.days for part in arrears) == length
    assert all(0 < part.days <= part.whole for part in arrears)
    assert arrears == list(given_days.parts_billed(ends_on, ends_on, BilledWhen.ADVANCE, leading))


@given(starts, months, billing_days, st.data())
def test_two_parts_of_a_first_period_are_one(
    starts_on: date, interval: Interval, billing_day: int, data: st.DataObject
) -> None:
    first = next(BillingDays(starts_on, interval, billing_day).periods())
    cut = data.draw(st.dates(first.start, first.end - DAY))

    before = list(BillingDays(starts_on, interval, billing_day).parts_billed(cut, cut))
    (whole,) = BillingDays(starts_on, interval, billing_day).parts_billed(first.start, None)

    assert sum((Fraction(*part) for part in before), Fraction(0)) == Fraction((cut - starts_on).days, whole.whole)


class TestPartsBilled:
    @pytest.mark.parametrize(
        ("leading", "whole"),
        [(LeadingBase.ANCHOR_SERIES, 28), (LeadingBase.FIRST_BILLING_DATE_MINUS_ONE_INTERVAL, 31)],
    )
    def test_a_first_part_is_of_an_interval(self, leading: LeadingBase, whole: int) -> None:
        parts = of("2011-02-14", 31).parts_billed(day("2011-03-01"), None, leading=leading)

        assert list(parts) == [(14, whole), (31, 31)]

    @pytest.mark.parametrize(
        ("when", "target", "days"),
        [
            (BilledWhen.ADVANCE, "2026-01-09", []),
            (BilledWhen.ADVANCE, "2026-01-10", [22]),
            (BilledWhen.ADVANCE, "2026-02-01", [22, 28]),
            (BilledWhen.ADVANCE, "2026-06-01", [22, 28, 9]),
            (BilledWhen.ARREARS, "2026-01-31", []),
            (BilledWhen.ARREARS, "2026-02-01", [22]),
            (BilledWhen.ARREARS, "2026-03-09", [22, 28]),
            (BilledWhen.ARREARS, "2026-03-10", [22, 28, 9]),
        ],
    )
    def test_is_billed_when_it_starts_or_has_ended(self, when: BilledWhen, target: str, days: list[int]) -> None:
        parts = of("2026-01-10", 1).parts_billed(day(target), day("2026-03-10"), when)

        assert [part.days for part in parts] == days

    def test_a_first_period_that_is_whole_is_measured_by_itself(self) -> None:
        assert list(of("2026-02-28", 31).parts_billed(day("2026-02-28"), None)) == [(31, 31)]

    def test_quarters_begin_in_the_month_of_the_start(self) -> None:
        parts = of("2011-02-24", 10, Interval.QUARTER).parts_billed(day("2011-03-06"), None)

        assert list(parts) == [(75, 89)]


def test_periods_of_one_invoice() -> None:
    assert period_in_advance(day("2026-01-31"), Interval.MONTH, 31, first=False) == (
        day("2026-01-31"),
        day("2026-02-28"),
    )
    assert period_in_advance(day("2026-02-28"), Interval.MONTH, 31, first=False) == (
        day("2026-02-28"),
        day("2026-03-31"),
    )
    assert period_in_advance(day("2026-01-05"), Interval.YEAR, 10, first=True) == (day("2026-01-05"), day("2026-01-10"))
    assert period_in_arrears(day("2026-03-31"), Interval.MONTH, 31, day("2025-01-01")) == (
        day("2026-02-28"),
        day("2026-03-31"),
    )
    assert period_in_arrears(day("2026-03-01"), Interval.MONTH, 1, day("2026-02-10")) == (
        day("2026-02-10"),
        day("2026-03-01"),
    )
    assert period_in_arrears(day("2026-03-01"), Interval.MONTH, 1, day("2026-03-01")) is None


def test_weeks_have_no_day_of_the_month() -> None:
    with pytest.raises(ValueError, match="week"):
        of("2026-01-10", 1, Interval.WEEK)
