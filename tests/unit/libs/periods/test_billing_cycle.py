"""Monthly billing periods: consecutive, anchored, in every zone."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidInput
from libs.periods import BillingCycle, Period, is_window_aligned, local_midnight
from tests.unit.libs.periods.zones import BERLIN, EVERY_ZONE, days, utc, zones

UTC_ZONE = ZoneInfo("UTC")
anchor_days = st.integers(1, 31)


def start_days(cycle: BillingCycle, count: int) -> list[str]:
    starts = [cycle.period_at_index(index).start.astimezone(cycle.zone) for index in range(count)]
    assert all(start.time() == datetime.min.time() for start in starts)
    return [start.date().isoformat() for start in starts]


class TestAnniversary:
    @pytest.mark.parametrize(
        ("starts_on", "starts"),
        [
            ("2026-01-31", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
            ("2024-01-30", ["2024-01-30", "2024-02-29", "2024-03-30", "2024-04-30", "2024-05-30"]),
            ("2026-11-29", ["2026-11-29", "2026-12-29", "2027-01-29", "2027-02-28", "2027-03-29"]),
            ("2026-02-28", ["2026-02-28", "2026-03-28", "2026-04-28", "2026-05-28", "2026-06-28"]),
        ],
    )
    def test_clamps_to_the_end_of_the_month_and_returns_to_the_anchor(self, starts_on: str, starts: list[str]) -> None:
        assert start_days(BillingCycle.anniversary(date.fromisoformat(starts_on), BERLIN), 5) == starts

    def test_is_cut_at_local_midnight_on_both_sides_of_a_clock_change(self) -> None:
        cycle = BillingCycle.anniversary(date(2026, 3, 15), BERLIN)

        assert cycle.period_at_index(0) == Period(utc("2026-03-14T23:00"), utc("2026-04-14T22:00"))

    def test_an_anchor_day_may_differ_from_the_first_day(self) -> None:
        assert start_days(BillingCycle(date(2026, 2, 10), 31, BERLIN), 3) == ["2026-02-10", "2026-02-28", "2026-03-31"]
        assert start_days(BillingCycle(date(2026, 2, 28), 31, BERLIN), 3) == ["2026-02-28", "2026-03-31", "2026-04-30"]
        assert start_days(BillingCycle(date(2026, 2, 20), 15, BERLIN), 3) == ["2026-02-20", "2026-03-15", "2026-04-15"]


@given(days, anchor_days, zones, st.integers(0, 5))
def test_whole_periods_are_those_between_two_anchor_days(
    starts_on: date, anchor_day: int, zone: ZoneInfo, index: int
) -> None:
    if local_midnight(starts_on, zone) == local_midnight(starts_on + timedelta(days=1), zone):
        return  # A day that the zone left out.
    cycle = BillingCycle(starts_on, anchor_day, zone)
    period, whole = cycle.period_at_index(index), cycle.whole_period_at_index(index)

    assert whole.start <= period.start
    assert whole.end == period.end
    assert (whole == period) == (index > 0 or period.start == whole.start)
    last_year = BillingCycle(starts_on - timedelta(days=400), anchor_day, zone)
    assert last_year.period_containing(period.start) == whole


class TestCalendar:
    @pytest.mark.parametrize(
        ("starts_on", "starts"),
        [
            ("2026-11-20", ["2026-11-20", "2026-12-01", "2027-01-01"]),
            ("2026-03-01", ["2026-03-01", "2026-04-01", "2026-05-01"]),
            ("2026-03-31", ["2026-03-31", "2026-04-01", "2026-05-01"]),
        ],
    )
    def test_begins_with_what_is_left_of_the_month(self, starts_on: str, starts: list[str]) -> None:
        assert start_days(BillingCycle.calendar(date.fromisoformat(starts_on), BERLIN), 3) == starts


class TestPeriodContaining:
    def test_edges_belong_to_the_later_period(self) -> None:
        cycle = BillingCycle.anniversary(date(2026, 1, 31), UTC_ZONE)

        assert cycle.index_at(utc("2026-02-28")) == 1
        assert cycle.index_at(utc("2026-02-28") - timedelta(microseconds=1)) == 0

    def test_refuses_instants_before_the_first_period(self) -> None:
        cycle = BillingCycle.anniversary(date(2026, 1, 31), UTC_ZONE)

        with pytest.raises(ValueError, match="before the first period"):
            cycle.period_containing(utc("2026-01-31") - timedelta(microseconds=1))

    def test_finds_the_new_month_in_the_repeated_last_minutes_of_the_old_one(self) -> None:
        # 00:01 on 1 November 2009 became 23:01 on 31 October: November had begun, local clocks said October again.
        cycle = BillingCycle.calendar(date(2009, 8, 15), ZoneInfo("America/St_Johns"))
        repeated = utc("2009-11-01T03:00")

        assert repeated.astimezone(cycle.zone).date() == date(2009, 10, 31)
        assert cycle.period_containing(repeated).start == utc("2009-11-01T02:30")


class TestBillingCycle:
    @pytest.mark.parametrize("anchor_day", [0, 32, -1])
    def test_refuses_anchor_days_that_no_month_has(self, anchor_day: int) -> None:
        with pytest.raises(InvalidInput) as raised:
            BillingCycle(date(2026, 1, 1), anchor_day, BERLIN)

        assert raised.value.violations[0].field == "anchor_day"

    def test_refuses_to_start_on_a_day_that_the_zone_left_out(self) -> None:
        with pytest.raises(InvalidInput) as raised:
            BillingCycle.anniversary(date(2011, 12, 30), ZoneInfo("Pacific/Apia"))

        assert raised.value.violations[0].reason == "NO_SUCH_LOCAL_DAY"

    def test_refuses_negative_indexes(self) -> None:
        with pytest.raises(ValueError, match="must not be negative: -1"):
            BillingCycle.anniversary(date(2026, 1, 1), BERLIN).period_at_index(-1)

    @settings(max_examples=20, deadline=None)
    @given(days, anchor_days, st.integers(0, 30))
    def test_periods_are_consecutive_whole_windows_in_every_zone(
        self, starts_on: date, anchor_day: int, index: int
    ) -> None:
        for zone in EVERY_ZONE:
            cycle = BillingCycle(starts_on, anchor_day, zone)
            period, following = cycle.period_at_index(index), cycle.period_at_index(index + 1)

            assert cycle.period_at_index(0).start == local_midnight(starts_on, zone)
            assert period.end == following.start, zone
            assert is_window_aligned(period.start), zone
            assert is_window_aligned(period.end), zone
            assert cycle.index_at(period.start) == index, zone
            assert cycle.index_at(period.end - timedelta(microseconds=1)) == index, zone
            assert cycle.period_containing(period.end) == following, zone

    @given(days, anchor_days, zones, st.integers(1, 60))
    def test_every_cut_is_the_anchor_day_or_the_end_of_a_shorter_month(
        self, starts_on: date, anchor_day: int, zone: ZoneInfo, index: int
    ) -> None:
        cycle = BillingCycle(starts_on, anchor_day, zone)
        end = cycle.period_at_index(index).end

        # Noon of the day that the period ends with names the day even where midnight is skipped or repeated.
        day = (end + timedelta(hours=6)).astimezone(zone).date()
        assert day.day == min(anchor_day, monthrange(day.year, day.month)[1])
        following = cycle.period_at_index(index + 1).end + timedelta(hours=6)
        next_day = following.astimezone(zone).date()
        assert next_day.year * 12 + next_day.month == day.year * 12 + day.month + 1
