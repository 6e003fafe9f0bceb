"""The outbox of state: a log of changes whose items' current values are still to be published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw

Mark = tuple[str, str, int]
"""Tenant id, key of the item within the tenant, version of its value after a change."""


def mark_table(metadata: sa.MetaData, name: str) -> sa.Table:
    """Define a table of marks: a queue table, without row-level security.

    Marks are only ever added and deleted, so that writers of the same item never wait for each other or for the
    relay, and the one index grows at its end. `version` comes from the service's one sequence of versions.
    """
    return sa.Table(
        name,
        metadata,
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("item_key", sa.Text, nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False),
        # All rows are dead soon: vacuum by their number, not by their share.
        postgresql_with={"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "20000"},
    )


def marking(table: sa.Table, changed: str, now: str) -> str:
    """SQL that marks the rows (tenant_id, item_key, version) of a FROM item, for statements that change and mark at
    once. `now`, an expression, is real time, never a tenant's test time."""
    # The same version again is the same change.
    return f"""
    INSERT INTO {table.name} (tenant_id, item_key, version, marked_at)
    SELECT tenant_id, item_key, version, {now} FROM {changed}
    ON CONFLICT DO NOTHING
    """  # noqa: S608 - names of tables and columns


_GIVEN = "unnest($1::text[], $2::text[], $3::bigint[]) AS changed (tenant_id, item_key, version)"


class StateOutbox:
    """Marks items inside the transaction that changes their values."""

    def __init__(self, connection: AsyncConnection, table: sa.Table) -> None:
        self._connection = connection
        self._mark = marking(table, _GIVEN, "$4")

    async def mark(self, items: Sequence[Mark], now: datetime) -> None:
        """Mark changed items; each will be published with its then current value.

        `now` is real time, never a tenant's test time. Versions of an item grow in the order of its changes, so they
        are taken under the lock of its row.
        """
        if not items:
            return
        tenants, keys, versions = map(list, zip(*items, strict=True))
        await (await raw(self._connection)).execute(self._mark, tenants, keys, versions, now)


async def pending_floor(connection: AsyncConnection, table: sa.Table) -> int | None:
    """Return the smallest version that may still be unpublished; None if everything committed is published."""
    floor = await connection.execute(sa.select(sa.func.min(table.c.version)))
    value = floor.scalar_one()
    return None if value is None else int(value)
