"""Directory entries that wait to be published, and their current values, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from libs.database import Database, raw
from services.billing.usecases.ports import DirectoryEntry, EntryKind

_MARKS_AT_ONCE = 1_000

_LOCK_MARKS = "SELECT item_key FROM directory_marks WHERE tenant_id = $1 ORDER BY item_key LIMIT $2 FOR UPDATE"
_CLEAR_MARKS = "DELETE FROM directory_marks WHERE tenant_id = $1 AND item_key = ANY ($2::text[])"
_LEFT = "SELECT DISTINCT tenant_id FROM directory_marks WHERE marked_at <= $1 LIMIT $2"
_READ = {
    EntryKind.TENANT: """
        SELECT tenant_id AS entry_id, version, tenant_id, reject_unknown_customers, event_past_limit_s,
            event_future_limit_s
        FROM tenants WHERE tenant_id = $1 AND tenant_id = ANY ($2::text[])
    """,
    EntryKind.KEY: """
        SELECT key_id AS entry_id, version, tenant_id, key_id, secret_hash, revoked_at IS NOT NULL AS revoked
        FROM api_keys WHERE tenant_id = $1 AND key_id = ANY ($2::text[])
    """,
    EntryKind.CLOCK: """
        SELECT tenant_id AS entry_id, version, tenant_id, test_time
        FROM clocks WHERE tenant_id = $1 AND tenant_id = ANY ($2::text[])
    """,
    EntryKind.CUSTOMER: """
        SELECT customer_id AS entry_id, version, tenant_id, customer_id
        FROM customers WHERE tenant_id = $1 AND customer_id = ANY ($2::text[])
    """,
}
_MARK_ALL = """
INSERT INTO directory_marks (tenant_id, item_key, marked_at)
SELECT tenant_id, item_key, $1 FROM (
    SELECT tenant_id, 'tenant:' || tenant_id AS item_key FROM tenants
    UNION ALL SELECT tenant_id, 'key:' || key_id FROM api_keys
    UNION ALL SELECT tenant_id, 'clock:' || tenant_id FROM clocks WHERE test_time IS NOT NULL
    UNION ALL SELECT tenant_id, 'customer:' || customer_id FROM customers
) entries WHERE tenant_id = ANY ($2::text[])
ORDER BY tenant_id, item_key
ON CONFLICT DO NOTHING
"""
_ALL_TENANTS = "SELECT tenant_id FROM clocks"


class PostgresDirectoryEntries:
    """Reads and clears marks, as a worker."""

    def __init__(self, worker_database: Database) -> None:
        self._database = worker_database

    @asynccontextmanager
    async def locked(self, tenant_id: str) -> AsyncIterator[list[DirectoryEntry]]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            marks = [row["item_key"] for row in await driver.fetch(_LOCK_MARKS, tenant_id, _MARKS_AT_ONCE)]
            yield await _read(driver, tenant_id, marks)
            await driver.execute(_CLEAR_MARKS, tenant_id, marks)

    async def left_behind(self, before: datetime, limit: int) -> list[str]:
        async with self._database.queue_transaction() as connection:
            return [row["tenant_id"] for row in await (await raw(connection)).fetch(_LEFT, before, limit)]

    async def mark_all(self, marked_at: datetime) -> int:
        async with self._database.queue_transaction() as connection:
            tenant_ids = [row["tenant_id"] for row in await (await raw(connection)).fetch(_ALL_TENANTS)]
        for tenant_id in tenant_ids:
            async with self._database.transaction(tenant_id) as connection:
                await (await raw(connection)).execute(_MARK_ALL, marked_at, [tenant_id])
        return len(tenant_ids)


async def _read(driver: asyncpg.Connection, tenant_id: str, marks: list[str]) -> list[DirectoryEntry]:
    ids: dict[EntryKind, list[str]] = {}
    for mark in marks:
        kind, _, entry_id = mark.partition(":")
        ids.setdefault(EntryKind(kind), []).append(entry_id)
    entries: list[DirectoryEntry] = []
    for kind, entry_ids in ids.items():
        for row in await driver.fetch(_READ[kind], tenant_id, entry_ids):
            values = dict(row)
            entries.append(DirectoryEntry(kind, tenant_id, values.pop("entry_id"), values))
    return entries
