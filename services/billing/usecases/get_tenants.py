"""Look at tenants."""

from __future__ import annotations

from services.billing.usecases.create_tenant import TenantView
from services.billing.usecases.ports import Queues, UnitOfWork


class GetTenant:
    """:raises TenantNotFound: if there is none"""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(self, *, tenant_id: str) -> TenantView:
        async with self._unit_of_work(tenant_id) as work:
            return TenantView(await work.tenants.get(), (await work.tenants.clock()).test_time)


class ListTenants:
    """Tenants by id, for the operator: row-level security shows named tenants only, so the ids come from a queue."""

    def __init__(self, *, queues: Queues) -> None:
        self._queues = queues

    async def __call__(self, *, after: str, limit: int) -> list[TenantView]:
        found = await self._queues.tenants(await self._queues.tenant_ids(after, limit))
        return [TenantView(tenant, test_time) for tenant, test_time in found]
