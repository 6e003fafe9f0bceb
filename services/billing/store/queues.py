"""What workers see across tenants: ids and due times, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from libs.database import Database, raw
from services.billing.domain.charge import PeriodKey
from services.billing.domain.tenant import Tenant
from services.billing.store.tables import clocks, tenants

# Each tenant's now is its test clock, or the real time; the lateral probe uses the index of one tenant's due times.
_NEWLY_DUE = """
SELECT d.tenant_id, d.subscription_id, d.period_start
FROM clocks c CROSS JOIN LATERAL (
    SELECT q.tenant_id, q.subscription_id, q.period_start FROM due_periods q
    WHERE q.tenant_id = c.tenant_id AND q.closing_at IS NULL AND q.due_at <= coalesce(c.test_time, $1)
    ORDER BY q.due_at LIMIT $2
) d
LIMIT $2
"""
_DUE_EXTENSIONS = """
SELECT d.tenant_id, d.subscription_id
FROM clocks c CROSS JOIN LATERAL (
    SELECT q.tenant_id, q.subscription_id FROM due_extensions q
    WHERE q.tenant_id = c.tenant_id AND q.due_at <= coalesce(c.test_time, $1)
    ORDER BY q.due_at LIMIT $2
) d
LIMIT $2
"""
# Asked ten times a second: without statistics, as in a new database, or with old ones, the planner would rather read
# all periods of all tenants, and sort them.
_BY_INDEX = """
SELECT set_config(name, 'off', true)
FROM unnest('{enable_seqscan,enable_hashjoin,enable_mergejoin,enable_bitmapscan,enable_sort}'::text[]) AS name
"""
# A subscription that still needs periods waits: its later periods must be in the queue before an earlier one leaves
# it, or a tenant that moved its clock far could see "nothing is due" too early.
_CLAIM_CLOSING = """
WITH ready AS (
    SELECT d.tenant_id, d.subscription_id, d.period_start
    FROM due_periods d JOIN clocks c USING (tenant_id)
    WHERE d.closing_at < (SELECT rated_through FROM rating_watermark) AND d.try_at <= $1
        AND NOT EXISTS (SELECT FROM holds h WHERE h.tenant_id = d.tenant_id)
        AND NOT EXISTS (
            SELECT FROM due_extensions e
            WHERE e.tenant_id = d.tenant_id AND e.subscription_id = d.subscription_id
                AND e.due_at <= coalesce(c.test_time, $1)
        )
    ORDER BY d.tenant_id, d.period_start, d.subscription_id
    LIMIT $3 FOR UPDATE OF d SKIP LOCKED
)
UPDATE due_periods d SET try_at = $2 FROM ready r
WHERE d.tenant_id = r.tenant_id AND d.subscription_id = r.subscription_id AND d.period_start = r.period_start
RETURNING d.tenant_id, d.subscription_id, d.period_start
"""
_OVERDUE = """
SELECT coalesce(sum(d.count), 0)::bigint FROM clocks c CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM due_periods q WHERE q.tenant_id = c.tenant_id AND q.closing_at IS NOT NULL)
        + (
            SELECT count(*) FROM due_periods q
            WHERE q.tenant_id = c.tenant_id AND q.closing_at IS NULL AND q.due_at <= coalesce(c.test_time, $1)
        ) AS count
) d
"""
_RATED_THROUGH = "SELECT rated_through FROM rating_watermark"


class PostgresQueues:
    """Reads the queues as a worker."""

    def __init__(self, worker_database: Database) -> None:
        self._database = worker_database

    async def tenant_ids(self, after: str, limit: int) -> list[str]:
        query = sa.select(clocks.c.tenant_id).where(clocks.c.tenant_id > after)
        async with self._database.queue_transaction() as connection:
            return list((await connection.execute(query.order_by(clocks.c.tenant_id).limit(limit))).scalars())

    async def tenants(self, tenant_ids: Sequence[str]) -> list[tuple[Tenant, datetime | None]]:
        if not tenant_ids:
            return []
        columns = [column for column in tenants.c if column.name != "version"]
        query = sa.select(*columns, clocks.c.test_time).join_from(
            tenants, clocks, tenants.c.tenant_id == clocks.c.tenant_id
        )
        wanted = query.where(tenants.c.tenant_id.in_(tenant_ids)).order_by(tenants.c.tenant_id)
        async with self._database.transaction(*tenant_ids) as connection:
            rows = (await connection.execute(wanted)).all()
        return [
            (Tenant(**{column.name: getattr(row, column.name) for column in columns}), row.test_time) for row in rows
        ]

    async def due_extensions(self, now: datetime, limit: int) -> dict[str, list[str]]:
        async with self._database.queue_transaction() as connection:
            rows = await (await raw(connection)).fetch(_DUE_EXTENSIONS, now, limit)
        due: dict[str, list[str]] = {}
        for row in rows:
            due.setdefault(row["tenant_id"], []).append(row["subscription_id"])
        return due

    async def newly_due(self, now: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        async with self._database.queue_transaction() as connection:
            return _by_tenant(await (await raw(connection)).fetch(_NEWLY_DUE, now, limit))

    async def claim_closing(self, now: datetime, until: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            await driver.execute(_BY_INDEX)
            return _by_tenant(await driver.fetch(_CLAIM_CLOSING, now, until, limit))

    async def backlog(self, now: datetime) -> tuple[int, datetime | None]:
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            await driver.execute(_BY_INDEX)
            return await driver.fetchval(_OVERDUE, now), await driver.fetchval(_RATED_THROUGH)


def _by_tenant(rows: Iterable[Mapping[str, object]]) -> dict[str, list[PeriodKey]]:
    keys: dict[str, list[PeriodKey]] = {}
    for row in rows:
        tenant_id, subscription_id, period_start = row["tenant_id"], row["subscription_id"], row["period_start"]
        assert isinstance(period_start, datetime)
        keys.setdefault(str(tenant_id), []).append(PeriodKey(str(subscription_id), period_start))
    return keys
