"""Add a tenant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from libs.clock import Clock
from services.billing.domain.clock import TestClocksDisabled, check_test_time
from services.billing.domain.tenant import Tenant
from services.billing.usecases.ports import Directory, EntryKind, UnitOfWork
from services.billing.usecases.request import Request, require_valid


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant with the time on its test clock, None in real time."""

    tenant: Tenant
    test_time: datetime | None


class CreateTenant:
    """Stores the tenant and returns once it is in the directory.

    :raises InvalidInput, TenantExists, RequestIdReused, TestClocksDisabled: and nothing is stored
    """

    def __init__(self, *, unit_of_work: UnitOfWork, directory: Directory, clock: Clock, test_clocks: bool) -> None:
        self._unit_of_work = unit_of_work
        self._directory = directory
        self._clock = clock
        self._test_clocks = test_clocks

    async def __call__(self, *, request: Request, tenant: Tenant, test_time: datetime | None) -> TenantView:
        violation = check_test_time(test_time, "tenant.test_clock_time") if test_time else None
        require_valid(request.request_id, [*tenant.violations(), *([violation] if violation else [])])
        if test_time is not None and not self._test_clocks:
            raise TestClocksDisabled("test clocks are switched off here")
        async with self._unit_of_work(tenant.tenant_id) as work:
            if await request.claim(work, tenant.tenant_id, self._clock()) is None:
                await work.tenants.add(replace(tenant, created_at=self._clock()), test_time)
                await work.publish_entry(EntryKind.TENANT, tenant.tenant_id)
                if test_time is not None:
                    await work.publish_entry(EntryKind.CLOCK, tenant.tenant_id)
            view = TenantView(await work.tenants.get(), (await work.tenants.clock()).test_time)
        await self._directory.publish(tenant.tenant_id)
        return view
