"""Payment methods in PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.domain.method import PaymentMethod
from services.payments.store.rows import method_from_row
from services.payments.store.tables import methods


class PostgresMethodStore:
    """One current method per customer; earlier ones stay as history."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, method: PaymentMethod) -> None:
        # Two callers at a time: the lock makes them take turns even when the customer has no row yet.
        lock = sa.func.pg_advisory_xact_lock(
            sa.func.hashtextextended(f"method:{method.tenant_id}:{method.customer_id}", 0)
        )
        await self._connection.execute(sa.select(lock))
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
