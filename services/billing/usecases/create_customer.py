"""Add a customer."""

from __future__ import annotations

from dataclasses import replace

from libs.clock import Clock
from services.billing.domain.customer import Customer
from services.billing.usecases.ports import Directory, EntryKind, UnitOfWork
from services.billing.usecases.request import Request, require_valid


class CreateCustomer:
    """Stores the customer, created at the tenant's now, and returns once it is in the directory.

    :raises InvalidInput, TenantNotFound, CustomerExists, RequestIdReused: and nothing is stored
    """

    def __init__(self, *, unit_of_work: UnitOfWork, directory: Directory, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._directory = directory
        self._clock = clock

    async def __call__(self, *, request: Request, tenant_id: str, customer: Customer) -> Customer:
        require_valid(request.request_id, customer.violations())
        real_now = self._clock()
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(real_now)
            first = await request.claim(work, customer.customer_id, real_now)
            if first is None:
                await work.customers.add(replace(customer, created_at=now))
                await work.publish_entry(EntryKind.CUSTOMER, customer.customer_id)
            stored = await work.customers.get(customer.customer_id)
        await self._directory.publish(tenant_id)
        return stored
