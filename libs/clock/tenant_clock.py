"""Each tenant is on the real clock or on a test clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from libs.clock.system import require_utc
from libs.errors import FailedPrecondition


class TestTimeMovedBack(FailedPrecondition):
    """Test time only moves forward: what was done at a later time cannot be undone."""

    __test__ = False  # Not a test case, in spite of its name.
    reason = "TEST_TIME_MOVED_BACK"


class NotOnTestClock(FailedPrecondition):
    """The tenant lives in real time, which nobody can advance."""

    reason = "NOT_ON_TEST_CLOCK"


@dataclass(frozen=True, slots=True)
class TenantClock:
    """The clock state of one tenant; `test_time` is None on the real clock, `version` grows with every change."""

    tenant_id: str
    test_time: datetime | None
    version: int

    def __post_init__(self) -> None:
        if self.test_time is not None:
            require_utc(self.test_time)

    def now(self, real_now: datetime) -> datetime:
        """The tenant's current instant: its test time, which stands still between advances, or the real time."""
        return require_utc(real_now) if self.test_time is None else self.test_time

    def advanced_to(self, test_time: datetime) -> TenantClock:
        """The clock moved forward; the same instant gives the same clock, so that a retry changes nothing.

        :raises TestTimeMovedBack: if `test_time` is before the current test time
        :raises NotOnTestClock: if the tenant is on the real clock
        """
        if self.test_time is None:
            raise NotOnTestClock(f"tenant {self.tenant_id} is on the real clock", tenantId=self.tenant_id)
        if require_utc(test_time) < self.test_time:
            message = f"test time is {self.test_time.isoformat()} and cannot move back to {test_time.isoformat()}"
            raise TestTimeMovedBack(message, tenantId=self.tenant_id, testTime=self.test_time.isoformat())
        if test_time == self.test_time:
            return self
        return replace(self, test_time=test_time, version=self.version + 1)
