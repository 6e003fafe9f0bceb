"""Customers that exist, as the directory told."""

from __future__ import annotations

from collections.abc import Sequence

from libs.database import Database, raw

_ADD = """
INSERT INTO known_customers AS kept (tenant_id, customer_id, version)
SELECT tenant_id, customer_id, max(version)
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS customer (tenant_id, customer_id, version)
GROUP BY tenant_id, customer_id ORDER BY tenant_id, customer_id
ON CONFLICT (tenant_id, customer_id) DO UPDATE SET version = excluded.version WHERE kept.version < excluded.version
"""


class PostgresKnownCustomers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, customers: Sequence[tuple[str, str, int]]) -> None:
        """Store customers (tenant, customer, version) and commit; older versions change nothing."""
        async with self._database.transaction(*{tenant_id for tenant_id, _, _ in customers}) as connection:
            await (await raw(connection)).execute(_ADD, *(list(column) for column in zip(*customers, strict=True)))
