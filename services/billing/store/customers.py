"""Customers in PostgreSQL. Rows stay here."""

from __future__ import annotations

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.domain.customer import Customer, CustomerExists, CustomerNotFound
from services.billing.store.tables import customers
from services.billing.store.tenants import NEXT_VERSION

_COLUMNS = [column for column in customers.c if column.name not in ("tenant_id", "version")]


class PostgresCustomers:
    """The customers of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def add(self, customer: Customer) -> None:
        row = insert(customers).values(tenant_id=self._tenant_id, **asdict(customer), version=NEXT_VERSION)
        added = row.on_conflict_do_nothing().returning(customers.c.customer_id)
        if (await self._connection.execute(added)).one_or_none() is None:
            raise CustomerExists(f"customer {customer.customer_id} exists", customerId=customer.customer_id)

    async def get(self, customer_id: str) -> Customer:
        query = self._select().where(customers.c.customer_id == customer_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise CustomerNotFound(f"no customer {customer_id}", customerId=customer_id)
        return Customer(**row._mapping)

    async def page(self, after: str, limit: int) -> list[Customer]:
        query = self._select().where(customers.c.customer_id > after).order_by(customers.c.customer_id).limit(limit)
        return [Customer(**row._mapping) for row in await self._connection.execute(query)]

    def _select(self) -> sa.Select[tuple[object, ...]]:
        return sa.select(*_COLUMNS).where(customers.c.tenant_id == self._tenant_id)
