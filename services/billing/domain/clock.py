"""What may be done with a tenant's test clock."""

from __future__ import annotations

from datetime import UTC, datetime

from libs.clock import TenantClock
from libs.errors import FailedPrecondition, Unavailable, Violation

_FIRST, _BEYOND = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class TestClocksDisabled(FailedPrecondition):
    """This installation lives in real time only."""

    __test__ = False  # Not a test case, in spite of its name.
    reason = "TEST_CLOCKS_DISABLED"


class NoTestClock(FailedPrecondition):
    reason = "NO_TEST_CLOCK"


class ClockNotForward(FailedPrecondition):
    reason = "CLOCK_NOT_FORWARD"


class ClockNotConfirmed(Unavailable):
    """The clock has moved, but not every service has said that it lives in the new time."""

    reason = "CLOCK_NOT_CONFIRMED"


def check_test_time(at: datetime, field: str) -> Violation | None:
    """A test clock stands in 2000 to 2099: each subscription gets a billing period for every month up to it."""
    if _FIRST <= at < _BEYOND:
        return None
    return Violation(field, "OUT_OF_RANGE", "a test clock stands in the years 2000 to 2099")


def check_forward(clock: TenantClock, to: datetime) -> None:
    """Check that a clock may be set to a UTC instant; the present instant is allowed, for retries.

    :raises NoTestClock: if the tenant lives in real time
    :raises ClockNotForward: if the instant is before the present one
    """
    if clock.test_time is None:
        raise NoTestClock(f"tenant {clock.tenant_id} lives in real time", tenantId=clock.tenant_id)
    if to < clock.test_time:
        raise ClockNotForward(
            f"the clock stands at {clock.test_time.isoformat()} and cannot go back to {to.isoformat()}",
            tenantId=clock.tenant_id,
            time=clock.test_time.isoformat(),
        )
