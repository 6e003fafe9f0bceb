"""Usage windows in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, raw
from services.ingest.domain.usage_windows import UsageWindow
from services.ingest.usecases.list_windows import UsageDigest, UsageScope

_BY_KEY = """
SELECT window_key, meter_id, customer_id, window_start, dimensions, value, event_count, version, trace_parent
FROM usage_windows WHERE tenant_id = $1 AND window_key = ANY ($2::bytea[])
"""
_OF_SCOPES = """
SELECT scope.position, window_key, meter_id, kept.customer_id, window_start, dimensions, value, event_count, version,
    trace_parent
FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[])
    WITH ORDINALITY AS scope (customer_id, start_at, end_at, position)
JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.customer_id = scope.customer_id
    AND window_start >= start_at AND window_start < end_at
WHERE $5::bigint IS NULL OR (scope.position, window_key) > ($5, $6::bytea)
ORDER BY scope.position, window_key LIMIT $7
"""
_DIGESTS = """
SELECT scope.position, meter_id, count(*) AS window_count, sum(value) AS value_sum,
    sum(event_count)::bigint AS event_count, max(version) AS highest_version
FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[])
    WITH ORDINALITY AS scope (customer_id, start_at, end_at, position)
JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.customer_id = scope.customer_id
    AND window_start >= start_at AND window_start < end_at
GROUP BY scope.position, meter_id ORDER BY scope.position, meter_id
"""


async def read_windows(connection: AsyncConnection, tenant_id: str, keys: Sequence[str]) -> list[UsageWindow]:
    """Return the windows of a tenant by their keys as hexadecimal digits; unknown ones are left out.

    Those of a customer come together, so that as a rule they leave in one message and are rated once.
    """
    rows = await (await raw(connection)).fetch(_BY_KEY, tenant_id, [bytes.fromhex(key) for key in keys])
    return sorted((_window(row) for row in rows), key=lambda window: window.customer_id)


class PostgresWindowStore:
    """WindowStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def windows(
        self, tenant_id: str, scopes: Sequence[UsageScope], after: tuple[int, bytes] | None, limit: int
    ) -> list[tuple[int, UsageWindow]]:
        position, key = (after[0] + 1, after[1]) if after else (None, None)
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            rows = await driver.fetch(_OF_SCOPES, tenant_id, *_columns(scopes), position, key, limit)
        return [(row["position"] - 1, _window(row)) for row in rows]

    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[UsageDigest]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_DIGESTS, tenant_id, *_columns(scopes))
        return [
            UsageDigest(
                scope_index=row["position"] - 1,
                meter_id=row["meter_id"],
                window_count=row["window_count"],
                value_sum=row["value_sum"],
                event_count=row["event_count"],
                highest_version=row["highest_version"],
            )
            for row in rows
        ]


def _columns(scopes: Sequence[UsageScope]) -> tuple[list[object], ...]:
    return (
        [scope.customer_id for scope in scopes],
        [scope.period.start for scope in scopes],
        [scope.period.end for scope in scopes],
    )


def _window(row: asyncpg.Record) -> UsageWindow:
    return UsageWindow(
        key=row["window_key"],
        meter_id=row["meter_id"],
        customer_id=row["customer_id"],
        start=row["window_start"],
        dimensions=row["dimensions"],
        value=row["value"],
        event_count=row["event_count"],
        version=row["version"],
        trace_parent=row["trace_parent"],
    )
