"""The outbox of state: one dirty mark per item whose current value is still to be published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw

COALESCE = timedelta(milliseconds=100)
"""Changes of one item within this time leave in one message; no item is published more often."""

Mark = tuple[str, str, int]
"""Tenant id, key of the item within the tenant, version of its value."""


def mark_table(metadata: sa.MetaData, name: str) -> sa.Table:
    """Define a table of marks: a queue table, without row-level security.

    `version` is the newest version of the item, `first_version` the oldest change of it that may be unpublished.
    """
    first_version = sa.Column("first_version", sa.BigInteger, nullable=False)
    due_at = sa.Column("due_at", sa.DateTime(timezone=True), nullable=False)
    return sa.Table(
        name,
        metadata,
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("item_key", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        first_version,
        due_at,
        sa.Index(f"{name}_first_version", first_version),
        sa.Index(f"{name}_due_at", due_at),
    )


# Ordered by key, like every statement that locks several marks, so that two of them cannot deadlock.
_MARK = """
INSERT INTO {marks} AS mark (tenant_id, item_key, version, first_version, due_at)
SELECT tenant_id, item_key, max(version), min(version), $4
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS changed (tenant_id, item_key, version)
GROUP BY tenant_id, item_key ORDER BY tenant_id, item_key
ON CONFLICT (tenant_id, item_key) DO UPDATE SET
    version = greatest(mark.version, excluded.version),
    first_version = least(mark.first_version, excluded.first_version)
"""


class StateOutbox:
    """Marks items inside the transaction that changes their values."""

    def __init__(self, connection: AsyncConnection, table: sa.Table) -> None:
        self._connection = connection
        self._mark = _MARK.format(marks=table.name)

    async def mark(self, items: Sequence[Mark], now: datetime) -> None:
        """Mark changed items; each will be published, with its then current value, not before 100 ms from `now`.

        `now` is real time, never a tenant's test time. Versions of an item grow in the order of its changes, so they
        are taken under the lock of its row. Marks are the last rows that a transaction locks.
        """
        if not items:
            return
        tenants, keys, versions = map(list, zip(*items, strict=True))
        await (await raw(self._connection)).execute(self._mark, tenants, keys, versions, now + COALESCE)


async def pending_floor(connection: AsyncConnection, table: sa.Table) -> int | None:
    """Return the smallest version that may still be unpublished; None if everything committed is published."""
    floor = await connection.execute(sa.select(sa.func.min(table.c.first_version)))
    value = floor.scalar_one()
    return None if value is None else int(value)
