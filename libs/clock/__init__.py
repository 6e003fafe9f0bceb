"""Time: the only package that reads the machine's clocks, and the clock of a tenant."""

from libs.clock.system import Clock, monotonic_s, require_utc, system_clock
from libs.clock.tenant_clock import NotOnTestClock, TenantClock, TestTimeMovedBack

__all__ = [
    "Clock",
    "NotOnTestClock",
    "TenantClock",
    "TestTimeMovedBack",
    "monotonic_s",
    "require_utc",
    "system_clock",
]
