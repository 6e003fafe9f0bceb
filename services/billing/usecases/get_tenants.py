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
    """Tenants by id, for the operator: row-level security shows one tenant at a time, so the ids come from a queue."""

    def __init__(self, *, queues: Queues, get_tenant: GetTenant) -> None:
        self._queues = queues
        self._get_tenant = get_tenant

    async def __call__(self, *, after: str, limit: int) -> list[TenantView]:
        return [
            await self._get_tenant(tenant_id=tenant_id) for tenant_id in await self._queues.tenant_ids(after, limit)
        ]
