"""Move a tenant's test clock."""

from __future__ import annotations

from datetime import datetime

from libs.clock import Clock
from services.billing.domain.clock import ClockNotConfirmed, TestClocksDisabled, check_forward, check_test_time
from services.billing.usecases.ports import Directory, EntryKind, UnitOfWork
from services.billing.usecases.request import Request, require_valid


class AdvanceClock:
    """Returns the tenant's time once every service lives in it; a repeated request waits for that again.

    :raises InvalidInput, TenantNotFound, NoTestClock, TestClocksDisabled, ClockNotForward, RequestIdReused: and the
        clock stands as before
    :raises ClockNotConfirmed: the clock has moved
    """

    def __init__(self, *, unit_of_work: UnitOfWork, directory: Directory, clock: Clock, test_clocks: bool) -> None:
        self._unit_of_work = unit_of_work
        self._directory = directory
        self._clock = clock
        self._test_clocks = test_clocks

    async def __call__(self, *, request: Request, tenant_id: str, to: datetime) -> datetime:
        violation = check_test_time(to, "time")
        require_valid(request.request_id, [violation] if violation else [])
        if not self._test_clocks:
            raise TestClocksDisabled("test clocks are switched off here")
        async with self._unit_of_work(tenant_id) as work:
            clock = await work.tenants.lock_clock()
            if await request.claim(work, tenant_id, self._clock()) is None:
                check_forward(clock, to)
                await work.tenants.set_clock(to)
            # Also for a repetition: what is to be confirmed is then certain to lie behind what services have read.
            await work.publish_entry(EntryKind.CLOCK, tenant_id)
            now = (await work.tenants.clock()).now(self._clock())
        await self._directory.publish(tenant_id)
        if missing := await self._directory.unconfirmed():
            raise ClockNotConfirmed(
                f"the clock has moved, but {', '.join(missing)} did not confirm it", missing=",".join(missing)
            )
        return now
