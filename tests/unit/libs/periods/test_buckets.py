"""Buckets of a period at local boundaries."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.periods import WINDOW, BillingCycle, BucketSize, Period, buckets, is_window_aligned, local_midnight
from tests.unit.libs.periods.zones import BERLIN, EVERY_ZONE, days, instants, utc, zones

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
OF_WINDOWS = sorted(set(BucketSize) - {BucketSize.MINUTE})


def local_days(first: str, last: str, zone: ZoneInfo) -> Period:
    return Period(local_midnight(date.fromisoformat(first), zone), local_midnight(date.fromisoformat(last), zone))


def lengths(parts: tuple[Period, ...]) -> list[timedelta]:
    return [part.end - part.start for part in parts]


def starts(parts: tuple[Period, ...], zone: ZoneInfo) -> list[str]:
    return [part.start.astimezone(zone).isoformat(timespec="minutes") for part in parts]


class TestDays:
    @pytest.mark.parametrize(("first", "hours"), [("2026-03-28", [24, 23, 24]), ("2026-10-24", [24, 25, 24])])
    def test_have_23_and_25_hours_where_clocks_change(self, first: str, hours: list[int]) -> None:
        last = (date.fromisoformat(first) + timedelta(days=3)).isoformat()

        parts = buckets(local_days(first, last, BERLIN), BucketSize.DAY, BERLIN)

        assert lengths(parts) == [hour * HOUR for hour in hours]

    def test_that_a_zone_left_out_have_no_bucket(self) -> None:
        apia = ZoneInfo("Pacific/Apia")

        parts = buckets(local_days("2011-12-29", "2012-01-01", apia), BucketSize.DAY, apia)

        assert starts(parts, apia) == ["2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"]

    def test_the_edges_of_the_period_cut_the_first_and_last_day(self) -> None:
        period = Period(utc("2026-05-01T12:07"), utc("2026-05-03T00:30"))

        parts = buckets(period, BucketSize.DAY, BERLIN)

        assert [part.start for part in parts] == [period.start, utc("2026-05-01T22:00"), utc("2026-05-02T22:00")]
        assert parts[-1].end == period.end

    def test_are_not_cut_again_where_midnight_is_repeated(self) -> None:
        zone = ZoneInfo("America/St_Johns")

        parts = buckets(Period(utc("2009-11-01T03:00"), utc("2009-11-03T03:30")), BucketSize.DAY, zone)

        assert [part.start for part in parts] == [utc("2009-11-01T03:00"), utc("2009-11-02T03:30")]


class TestWeeksAndMonths:
    def test_weeks_begin_on_monday(self) -> None:
        parts = buckets(local_days("2026-04-01", "2026-05-01", BERLIN), BucketSize.WEEK, BERLIN)

        assert [start[:10] for start in starts(parts, BERLIN)] == [
            "2026-04-01",
            "2026-04-06",
            "2026-04-13",
            "2026-04-20",
            "2026-04-27",
        ]

    def test_months_begin_on_the_first(self) -> None:
        parts = buckets(local_days("2026-01-31", "2026-04-02", BERLIN), BucketSize.MONTH, BERLIN)

        assert [start[:10] for start in starts(parts, BERLIN)] == [
            "2026-01-31",
            "2026-02-01",
            "2026-03-01",
            "2026-04-01",
        ]


class TestHours:
    @pytest.mark.parametrize(("day", "following", "count"), [("03-29", "03-30", 23), ("10-25", "10-26", 25)])
    def test_a_day_of_a_clock_change_has_23_or_25(self, day: str, following: str, count: int) -> None:
        parts = buckets(local_days(f"2026-{day}", f"2026-{following}", BERLIN), BucketSize.HOUR, BERLIN)

        assert lengths(parts) == [HOUR] * count

    @pytest.mark.parametrize("name", ["Asia/Kathmandu", "Asia/Kolkata", "Pacific/Chatham", "America/St_Johns"])
    def test_begin_where_local_clocks_show_a_full_hour(self, name: str) -> None:
        zone = ZoneInfo(name)

        parts = buckets(Period(utc("2026-06-01"), utc("2026-06-02")), BucketSize.HOUR, zone)

        assert {start[13:16] for start in starts(parts, zone)[1:]} == {":00"}
        assert set(lengths(parts)[1:-1]) == {HOUR}

    def test_a_change_by_half_an_hour_makes_half_an_hour(self) -> None:
        zone = ZoneInfo("Australia/Lord_Howe")

        autumn = buckets(local_days("2026-04-05", "2026-04-06", zone), BucketSize.HOUR, zone)
        spring = buckets(local_days("2026-10-04", "2026-10-05", zone), BucketSize.HOUR, zone)

        assert (sorted(lengths(autumn)), sorted(lengths(spring))) == (
            [HOUR / 2] + [HOUR] * 24,
            [HOUR / 2] + [HOUR] * 23,
        )

    def test_a_change_inside_a_window_cuts_at_its_end(self) -> None:
        zone = ZoneInfo("America/St_Johns")

        parts = buckets(Period(utc("2009-11-01T01:30"), utc("2009-11-01T05:30")), BucketSize.HOUR, zone)

        assert [part.start.strftime("%H:%M") for part in parts] == ["01:30", "02:30", "02:45", "03:30", "04:30"]


class TestMinutes:
    def test_begin_at_full_minutes(self) -> None:
        start = utc("2026-05-01T12:07") + timedelta(seconds=30)

        parts = buckets(Period(start, start + 2 * MINUTE), BucketSize.MINUTE, ZoneInfo("Asia/Kathmandu"))

        assert lengths(parts) == [MINUTE / 2, MINUTE, MINUTE / 2]
        assert [part.start.second for part in parts] == [30, 0, 0]


class TestBillingPeriods:
    @pytest.mark.parametrize(
        ("anchor_day", "days_of_cuts"),
        [
            (1, ["02-01", "03-01", "04-01", "05-01"]),
            (30, ["01-30", "02-28", "03-30", "04-30"]),
            (31, ["01-31", "02-28", "03-31", "04-30"]),
        ],
    )
    def test_begin_on_the_anchor_day_or_the_last_one(self, anchor_day: int, days_of_cuts: list[str]) -> None:
        period = local_days("2026-01-15", "2026-05-15", BERLIN)

        parts = buckets(period, BucketSize.BILLING_PERIOD, BERLIN, anchor_day=anchor_day)

        assert [start[5:10] for start in starts(parts, BERLIN)[1:]] == days_of_cuts

    @settings(max_examples=200, deadline=None)
    @given(days, st.integers(1, 31), st.integers(0, 30), zones)
    def test_are_those_that_are_invoiced(self, starts_on: date, anchor_day: int, index: int, zone: ZoneInfo) -> None:
        if local_midnight(starts_on, zone) == local_midnight(starts_on + timedelta(days=1), zone):
            starts_on += timedelta(days=1)  # A day that the zone left out.
        cycle = BillingCycle(starts_on, anchor_day, zone)
        invoiced = [cycle.period_at_index(index + number) for number in range(14)]

        parts = buckets(
            Period(invoiced[0].start, invoiced[-1].end), BucketSize.BILLING_PERIOD, zone, anchor_day=anchor_day
        )

        assert list(parts) == invoiced


def changes(zone: ZoneInfo, year: int) -> list[date]:
    """The local days of a year on which the zone's clocks are changed."""
    first = date(year, 1, 1)
    midnights = [local_midnight(first + timedelta(days=day), zone) for day in range(366)]
    lengths_of_days = enumerate(later - earlier for earlier, later in pairwise(midnights))
    return [first + timedelta(days=day) for day, length in lengths_of_days if length != 24 * HOUR]


class TestBuckets:
    @pytest.mark.parametrize("size", BucketSize)
    def test_add_up_to_the_days_of_clock_changes_of_every_zone(self, size: BucketSize) -> None:
        seen = set()
        for zone in EVERY_ZONE:
            for day in changes(zone, 2026):
                period = Period(
                    local_midnight(day - timedelta(days=1), zone), local_midnight(day + timedelta(days=2), zone)
                )
                seen.add(period)

                parts = buckets(period, size, zone, anchor_day=day.day)

                assert (parts[0].start, parts[-1].end) == (period.start, period.end), zone
                assert all(earlier.end == later.start for earlier, later in pairwise(parts)), zone
        assert len(seen) > 20

    @settings(max_examples=200, deadline=None)
    @given(instants, st.timedeltas(timedelta(microseconds=1), timedelta(days=40)), st.sampled_from(OF_WINDOWS), zones)
    def test_add_up_to_any_period(self, start: datetime, length: timedelta, size: BucketSize, zone: ZoneInfo) -> None:
        period = Period(start, start + length)

        parts = buckets(period, size, zone, anchor_day=31)

        assert (parts[0].start, parts[-1].end) == (period.start, period.end)
        assert all(earlier.end == later.start for earlier, later in pairwise(parts))
        assert all(is_window_aligned(part.start) for part in parts[1:])

    @settings(max_examples=10, deadline=None)
    @given(days, st.sampled_from([BucketSize.HOUR, BucketSize.DAY, BucketSize.WEEK, BucketSize.MONTH]))
    def test_add_up_to_local_days_in_every_zone(self, first: date, size: BucketSize) -> None:
        for zone in EVERY_ZONE:
            period = Period(local_midnight(first, zone), local_midnight(first + timedelta(days=2), zone))

            parts = buckets(period, size, zone)

            assert sum(lengths(parts), timedelta(0)) == period.end - period.start, zone
            assert (parts[0].start, parts[-1].end) == (period.start, period.end), zone
            assert all(earlier.end == later.start for earlier, later in pairwise(parts)), zone
            assert all(is_window_aligned(part.start) for part in parts), zone
            assert all(length <= HOUR for length in lengths(parts)) or size is not BucketSize.HOUR, zone

    @given(instants, zones)
    def test_quarter_hours_are_usage_windows(self, start: datetime, zone: ZoneInfo) -> None:
        parts = buckets(Period(start, start + timedelta(hours=3)), BucketSize.QUARTER_HOUR, zone)

        assert set(lengths(parts)[1:-1]) == {WINDOW}
