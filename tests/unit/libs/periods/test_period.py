"""Half-open periods and the window grid."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given

from libs.periods import WINDOW, Period, is_window_aligned, window_start
from tests.unit.libs.periods.zones import instants, utc

MARCH = Period(utc("2026-03-01"), utc("2026-04-01"))


class TestPeriod:
    def test_contains_its_start_but_not_its_end(self) -> None:
        assert MARCH.contains(MARCH.start)
        assert MARCH.contains(MARCH.end - timedelta(microseconds=1))
        assert not MARCH.contains(MARCH.end)
        assert not MARCH.contains(MARCH.start - timedelta(microseconds=1))

    def test_neighbours_do_not_overlap(self) -> None:
        april = Period(utc("2026-04-01"), utc("2026-05-01"))

        assert not MARCH.overlaps(april)
        assert not april.overlaps(MARCH)
        assert MARCH.intersection(april) is None

    def test_intersection_is_what_both_hold(self) -> None:
        other = Period(utc("2026-03-20"), utc("2026-04-20"))

        assert MARCH.overlaps(other)
        assert MARCH.intersection(other) == other.intersection(MARCH) == Period(utc("2026-03-20"), utc("2026-04-01"))

    @pytest.mark.parametrize("end", ["2026-03-01", "2026-02-28"])
    def test_refuses_to_be_empty(self, end: str) -> None:
        with pytest.raises(ValueError, match="must end after its start"):
            Period(utc("2026-03-01"), utc(end))

    def test_refuses_other_zones_than_utc(self) -> None:
        shifted = datetime(2026, 3, 2, tzinfo=timezone(timedelta(hours=1)))

        with pytest.raises(ValueError, match="not an aware UTC datetime"):
            Period(utc("2026-03-01"), shifted)
        with pytest.raises(ValueError, match="not an aware UTC datetime"):
            Period(datetime(2026, 3, 1), utc("2026-03-02"))  # noqa: DTZ001


class TestWindows:
    @pytest.mark.parametrize(
        ("at", "start"),
        [
            ("2026-03-01T12:00:00", "2026-03-01T12:00:00"),
            ("2026-03-01T12:14:59.999999", "2026-03-01T12:00:00"),
            ("2026-03-01T12:15:00", "2026-03-01T12:15:00"),
            ("2026-03-01T12:59:59", "2026-03-01T12:45:00"),
        ],
    )
    def test_window_start(self, at: str, start: str) -> None:
        assert window_start(utc(at)) == utc(start)

    @pytest.mark.parametrize("at", ["2026-03-01T12:01:00", "2026-03-01T12:00:01", "2026-03-01T12:00:00.000001"])
    def test_alignment_is_to_the_microsecond(self, at: str) -> None:
        assert is_window_aligned(utc("2026-03-01T12:45:00"))
        assert not is_window_aligned(utc(at))

    @given(instants)
    def test_every_instant_lies_in_its_window(self, at: datetime) -> None:
        start = window_start(at)

        assert start <= at < start + WINDOW
        assert is_window_aligned(start)
        assert (start - utc("1970-01-01")) % WINDOW == timedelta(0)
