"""Payment methods in PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.domain.method import PaymentMethod
from services.payments.store.rows import method_from_row
from services.payments.store.tables import methods


def method_lock_key(tenant_id: sa.ColumnElement[str], customer_id: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    """The advisory lock of a customer's method: exclusive to set it, shared to decide by it, also by its absence."""
    name = sa.literal("method:", sa.Text) + tenant_id + ":" + customer_id
    return sa.func.hashtextextended(name, 0, type_=sa.BigInteger)


class PostgresMethodStore:
    """One current method per customer; earlier ones stay as history."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, method: PaymentMethod) -> None:
        key = method_lock_key(sa.literal(method.tenant_id, sa.Text), sa.literal(method.customer_id, sa.Text))
        await self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        of_customer = (methods.c.tenant_id == method.tenant_id, methods.c.customer_id == method.customer_id)
        await self._connection.execute(sa.update(methods).where(*of_customer, methods.c.current).values(current=False))
        await self._connection.execute(
            sa.insert(methods).values(
                tenant_id=method.tenant_id,
                payment_method_id=method.payment_method_id,
                customer_id=method.customer_id,
                gateway_token=method.gateway_token,
                created_at=method.created_at,
                current=True,
            )
        )

    async def get(self, tenant_id: str, payment_method_id: str) -> PaymentMethod:
        query = sa.select(methods).where(
            methods.c.tenant_id == tenant_id, methods.c.payment_method_id == payment_method_id
        )
        return method_from_row((await self._connection.execute(query)).one())
