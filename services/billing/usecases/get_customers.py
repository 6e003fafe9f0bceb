"""Look at customers."""

from __future__ import annotations

from services.billing.domain.customer import Customer
from services.billing.usecases.ports import UnitOfWork


class GetCustomer:
    """:raises CustomerNotFound: if there is none"""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(self, *, tenant_id: str, customer_id: str) -> Customer:
        async with self._unit_of_work(tenant_id) as work:
            return await work.customers.get(customer_id)


class ListCustomers:
    """Customers by id, `limit` of those after an id."""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(self, *, tenant_id: str, after: str, limit: int) -> list[Customer]:
        async with self._unit_of_work(tenant_id) as work:
            return await work.customers.page(after, limit)
