"""The machine's clocks and a tenant's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from libs.clock import NotOnTestClock, TenantClock, TestTimeMovedBack, monotonic_s, require_utc, system_clock

MARCH_1 = datetime(2026, 3, 1, tzinfo=UTC)
MARCH_2 = datetime(2026, 3, 2, tzinfo=UTC)


class TestSystemClock:
    def test_is_aware_and_utc(self) -> None:
        assert system_clock().tzinfo is UTC

    def test_monotonic_seconds_do_not_go_back(self) -> None:
        readings = [monotonic_s() for _ in range(100)]

        assert readings == sorted(readings)


class TestRequireUtc:
    def test_returns_a_utc_instant(self) -> None:
        assert require_utc(MARCH_1) is MARCH_1

    @pytest.mark.parametrize("tzinfo", [None, timezone(timedelta(hours=1))])
    def test_refuses_naive_and_shifted(self, tzinfo: timezone | None) -> None:
        with pytest.raises(ValueError, match="not an aware UTC datetime"):
            require_utc(MARCH_1.replace(tzinfo=tzinfo))


class TestTenantClock:
    def test_real_clock_follows_real_time(self) -> None:
        assert TenantClock("acme", None, 1).now(MARCH_2) == MARCH_2

    def test_test_clock_stands_still(self) -> None:
        assert TenantClock("acme", MARCH_1, 1).now(MARCH_2) == MARCH_1

    def test_advances_with_a_new_version(self) -> None:
        assert TenantClock("acme", MARCH_1, 3).advanced_to(MARCH_2) == TenantClock("acme", MARCH_2, 4)

    def test_advancing_to_the_same_instant_changes_nothing(self) -> None:
        clock = TenantClock("acme", MARCH_1, 3)

        assert clock.advanced_to(MARCH_1) == clock

    def test_never_moves_back(self) -> None:
        with pytest.raises(TestTimeMovedBack) as raised:
            TenantClock("acme", MARCH_2, 3).advanced_to(MARCH_2 - timedelta(microseconds=1))

        assert raised.value.reason == "TEST_TIME_MOVED_BACK"
        assert raised.value.metadata["testTime"] == "2026-03-02T00:00:00+00:00"

    def test_real_time_cannot_be_advanced(self) -> None:
        with pytest.raises(NotOnTestClock):
            TenantClock("acme", None, 1).advanced_to(MARCH_2)

    def test_refuses_a_naive_test_time(self) -> None:
        with pytest.raises(ValueError, match="not an aware UTC datetime"):
            TenantClock("acme", MARCH_1.replace(tzinfo=None), 1)
