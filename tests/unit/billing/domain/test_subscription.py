from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidInput
from libs.periods import Period, find_zone
from services.billing.domain.subscription import (
    BillingAnchor,
    BillingPeriodNotFound,
    Subscription,
    SubscriptionEnded,
    check_start,
)
from tests.unit.billing.fakes import utc

MARCH = Period(utc(2026, 2, 27, 23), utc(2026, 3, 30, 22))


def a_subscription(
    starts_on: date = date(2026, 1, 31), anchor: BillingAnchor = BillingAnchor.ANNIVERSARY, zone: str = "Europe/Berlin"
) -> Subscription:
    return Subscription("sub-01", "cust-01", "standard", "EUR", starts_on, anchor, zone, utc(2026, 1, 1))


class TestPeriods:
    def test_return_to_the_anchor_after_short_months_and_keep_local_midnight(self) -> None:
        made = [period.start for _, period in a_subscription().periods_up_to(utc(2026, 4, 10), 0, None)]
        # 31 January, 28 February, 31 March (summer time since the 29th), 30 April, all at midnight in Berlin.
        assert made == [utc(2026, 1, 30, 23), utc(2026, 2, 27, 23), utc(2026, 3, 30, 22), utc(2026, 4, 29, 22)]

    def test_of_calendar_months_begin_with_a_shorter_one(self) -> None:
        made = [
            period
            for _, period in a_subscription(anchor=BillingAnchor.CALENDAR).periods_up_to(utc(2026, 2, 10), 0, None)
        ]
        assert [(period.start, period.end) for period in made] == [
            (utc(2026, 1, 30, 23), utc(2026, 1, 31, 23)),
            (utc(2026, 1, 31, 23), utc(2026, 2, 28, 23)),
            (utc(2026, 2, 28, 23), utc(2026, 3, 31, 22)),
        ]

    def test_that_a_start_shortens_are_parts_of_calendar_months(self) -> None:
        subscription = a_subscription(anchor=BillingAnchor.CALENDAR)
        assert subscription.whole_period(0) == Period(utc(2025, 12, 31, 23), utc(2026, 1, 31, 23))
        assert subscription.whole_period(1) is None
        assert a_subscription(date(2026, 2, 1), BillingAnchor.CALENDAR).whole_period(0) is None

    @given(st.dates(date(2026, 1, 1), date(2028, 12, 31)))
    def test_are_never_shortened_by_a_start_on_their_own_anniversary(self, starts_on: date) -> None:
        assert a_subscription(starts_on).whole_period(0) is None

    def test_are_made_one_ahead_and_never_twice(self) -> None:
        subscription = a_subscription()
        made = list(subscription.periods_up_to(utc(2026, 1, 1), 0, None))
        assert [index for index, _ in made] == [0, 1]
        assert list(subscription.periods_up_to(utc(2026, 1, 31), 2, made[-1][1])) == []
        later = subscription.periods_up_to(utc(2026, 6, 15), 2, made[-1][1])
        assert [index for index, _ in later] == [2, 3, 4, 5]

    def test_begin_where_the_stored_one_ended_although_the_zone_has_other_rules_by_now(self) -> None:
        stored = Period(utc(2026, 1, 30, 23), utc(2026, 2, 28, 1))  # By the rules of today it ends two hours earlier.
        made = [period for _, period in a_subscription().periods_up_to(utc(2026, 2, 28, 0), 1, stored)]
        assert made == [Period(utc(2026, 2, 28, 1), utc(2026, 3, 30, 22))]

    @given(st.timedeltas(timedelta(0), timedelta(days=3_600)))
    def test_leave_no_gap_up_to_the_one_after_now(self, since: timedelta) -> None:
        now = utc(2026, 2, 1) + since
        made = [period for _, period in a_subscription().periods_up_to(now, 0, None)]
        assert all(before.end == after.start for before, after in pairwise(made))
        assert made[-2].contains(now)


class TestCanceling:
    def test_ends_with_the_current_period_as_it_is_stored(self) -> None:
        canceled = a_subscription().canceled(MARCH)
        assert canceled.ended_at == utc(2026, 3, 30, 22)
        assert canceled.current_period(utc(2027, 1, 1)).end == canceled.ended_at
        assert [index for index, _ in canceled.periods_up_to(utc(2027, 1, 1), 0, None)] == [0, 1]

    def test_a_second_time_changes_nothing(self) -> None:
        once = a_subscription().canceled(MARCH)
        assert once.canceled(Period(utc(2026, 8, 30), utc(2026, 9, 30))) == once


class TestEndingInTheMiddle:
    @pytest.mark.parametrize(
        ("last_date", "ends_at"),
        [
            pytest.param(date(2026, 2, 28), utc(2026, 2, 28, 23), id="first-day"),
            pytest.param(date(2026, 3, 29), utc(2026, 3, 29, 22), id="day-of-23-hours"),
            pytest.param(date(2026, 3, 30), MARCH.end, id="last-day"),
        ],
    )
    def test_is_at_the_midnight_after_the_last_date(self, last_date: date, ends_at: datetime) -> None:
        assert a_subscription().end_after(last_date, MARCH) == ends_at

    @pytest.mark.parametrize("last_date", [date.min, date(2026, 2, 27), date(2026, 3, 31), date.max], ids=str)
    def test_is_in_the_current_period(self, last_date: date) -> None:
        with pytest.raises(InvalidInput):
            a_subscription().end_after(last_date, MARCH)
        with pytest.raises(InvalidInput):
            a_subscription().end_after(date(2026, 3, 1), None)

    def test_may_come_before_an_end_that_is_set_and_not_after_it(self) -> None:
        ends_on_the_20th = replace(a_subscription(), ended_at=utc(2026, 3, 20, 23))
        cut = Period(MARCH.start, utc(2026, 3, 20, 23))

        assert ends_on_the_20th.end_after(date(2026, 3, 10), cut) == utc(2026, 3, 10, 23)
        assert ends_on_the_20th.end_after(date(2026, 3, 20), cut) == cut.end
        for current in (cut, None):
            with pytest.raises(SubscriptionEnded):
                ends_on_the_20th.end_after(date(2026, 3, 21), current)

    def test_ends_the_period_that_is_shown(self) -> None:
        ended = replace(a_subscription(), ended_at=utc(2026, 3, 20, 23))

        assert ended.current_period(utc(2026, 3, 10)) == Period(MARCH.start, utc(2026, 3, 20, 23))
        assert ended.current_period(utc(2026, 6, 10)) == Period(MARCH.start, utc(2026, 3, 20, 23))
        assert ended.period_at(utc(2026, 3, 10)).end == utc(2026, 3, 20, 23)
        with pytest.raises(BillingPeriodNotFound):
            ended.period_at(utc(2026, 3, 21))


class TestPeriodAt:
    def test_exists_from_start_to_end_only(self) -> None:
        subscription = replace(a_subscription(), ended_at=utc(2026, 3, 30, 22))
        assert subscription.period_at(utc(2026, 3, 30, 21)).start == utc(2026, 2, 27, 23)
        for outside in (utc(2026, 1, 30, 22), utc(2026, 3, 30, 22)):
            with pytest.raises(BillingPeriodNotFound):
                subscription.period_at(outside)


def test_a_start_in_the_year_1_is_a_mistake() -> None:
    zone = find_zone("Europe/Berlin")
    check_start(date(2020, 1, 1), date(2026, 1, 1), zone)
    for absurd in (date(1, 1, 1), date(2026, 1, 1) + timedelta(days=3661)):
        with pytest.raises(InvalidInput):
            check_start(absurd, date(2026, 1, 1), zone)


def test_a_start_on_a_day_that_never_was_names_the_field() -> None:
    """Samoa crossed the date line and had no 30 December 2011."""
    with pytest.raises(InvalidInput) as caught:
        check_start(date(2011, 12, 30), date(2012, 1, 1), find_zone("Pacific/Apia"))
    assert [(item.field, item.reason) for item in caught.value.violations] == [
        ("subscription.start_date", "NO_SUCH_LOCAL_DAY")
    ]
