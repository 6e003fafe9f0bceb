"""Zones by name and the first instant of a local day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.periods import UnknownZone, find_zone, is_window_aligned, local_midnight
from tests.unit.libs.periods.zones import EVERY_ZONE, days, utc

# Zones that changed at or around midnight, crossed the date line, or change by half an hour.
ODD_ZONES = [
    "Africa/Cairo",
    "America/Asuncion",
    "America/Goose_Bay",
    "America/Havana",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
]


class TestFindZone:
    def test_finds_by_iana_name(self) -> None:
        assert find_zone("Europe/Berlin").key == "Europe/Berlin"
        assert find_zone("UTC").key == "UTC"

    @pytest.mark.parametrize(
        "name", ["", "Europe", "europe/berlin", "Mars/Base", "../UTC", "/etc/passwd", "Factory", "localtime", "UTC\0"]
    )
    def test_refuses_other_names(self, name: str) -> None:
        with pytest.raises(UnknownZone) as raised:
            find_zone(name, field="customer.time_zone")

        assert raised.value.reason == "UNKNOWN_TIME_ZONE"
        assert raised.value.violations[0].field == "customer.time_zone"


class TestLocalMidnight:
    @pytest.mark.parametrize(
        ("day", "zone", "instant"),
        [
            ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00"),
            ("2026-03-30", "Europe/Berlin", "2026-03-29T22:00"),
            ("2026-01-01", "Asia/Kathmandu", "2025-12-31T18:15"),
            # Clocks skipped from 00:00 to 01:00.
            ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00"),
            ("2024-04-26", "Africa/Cairo", "2024-04-25T22:00"),
            # Midnight came twice: clocks went from 00:01 and 01:00 back by an hour.
            ("2009-11-01", "America/St_Johns", "2009-11-01T02:30"),
            ("2025-11-02", "America/Havana", "2025-11-02T04:00"),
            # Samoa left out 30 December 2011.
            ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00"),
            ("2011-12-31", "Pacific/Apia", "2011-12-30T10:00"),
        ],
    )
    def test_examples(self, day: str, zone: str, instant: str) -> None:
        assert local_midnight(date.fromisoformat(day), ZoneInfo(zone)) == utc(instant)

    def test_a_gap_that_begins_before_midnight_ends_the_day_early(self) -> None:
        # Toronto went from 23:30 on 30 March 1919 to 00:30 on the 31st.
        assert local_midnight(date(1919, 3, 31), ZoneInfo("America/Toronto")) == utc("1919-03-31T04:30")

    @settings(max_examples=10, deadline=None)
    @given(days)
    def test_is_the_first_instant_of_the_day_in_every_zone(self, day: date) -> None:
        for zone in EVERY_ZONE:
            assert_first_instant_of(day, zone)

    @pytest.mark.parametrize("name", ODD_ZONES)
    def test_is_the_first_instant_of_every_day_around_clock_changes(self, name: str) -> None:
        zone = ZoneInfo(name)
        for day in days_of_clock_changes(zone):
            for offset in (-1, 0, 1):
                assert_first_instant_of(day + timedelta(days=offset), zone)

    @settings(max_examples=50)
    @given(days, st.sampled_from(EVERY_ZONE))
    def test_days_follow_each_other(self, day: date, zone: ZoneInfo) -> None:
        assert local_midnight(day, zone) <= local_midnight(day + timedelta(days=1), zone)


def assert_first_instant_of(day: date, zone: ZoneInfo) -> None:
    midnight = local_midnight(day, zone)

    assert is_window_aligned(midnight), (zone, day)
    assert midnight.astimezone(zone).date() >= day, (zone, day)
    assert all(
        (midnight - timedelta(microseconds=1, hours=hours)).astimezone(zone).date() < day for hours in range(4)
    ), (zone, day)


def days_of_clock_changes(zone: ZoneInfo) -> list[date]:
    at, found = datetime(1980, 1, 1, tzinfo=UTC), []
    while at.year < 2040:
        following = at + timedelta(days=1)
        if at.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            found.append(following.astimezone(zone).date())
        at = following
    assert found, f"{zone} has no clock change to test"
    return found
