"""What is known and expected of sources, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from libs.database import Database, RequestLog, raw
from services.ingest.domain.findings import FindingKind, Source, SourceExpectation
from services.ingest.store import tables
from services.ingest.usecases.missing_usage_requests import MutationId

_COLUMNS = "heartbeat_s, learns_cadence, allowance_s, holding_kinds"
_GET = f"SELECT source, {_COLUMNS} FROM source_expectations WHERE tenant_id = $1 AND source = $2"  # noqa: S608
_LIST = f"""
SELECT coalesce(asked.source, heard.source) AS source, {_COLUMNS}, last_at, (
        SELECT count(*) FROM findings
        WHERE findings.tenant_id = $1 AND findings.source = coalesce(asked.source, heard.source)
            AND resolved_at IS NULL
    )::int AS open_findings
FROM (SELECT source, {_COLUMNS} FROM source_expectations WHERE tenant_id = $1) AS asked
FULL JOIN (SELECT source, last_at FROM source_activity WHERE tenant_id = $1) AS heard ON heard.source = asked.source
WHERE $2::text IS NULL OR coalesce(asked.source, heard.source) > $2 COLLATE "C"
ORDER BY coalesce(asked.source, heard.source) COLLATE "C" LIMIT $3
"""  # noqa: S608 - put together from constants
_SET = """
INSERT INTO source_expectations AS kept (
    tenant_id, source, heartbeat_s, learns_cadence, allowance_s, holding_kinds, set_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, source) DO UPDATE SET
    heartbeat_s = excluded.heartbeat_s, learns_cadence = excluded.learns_cadence, allowance_s = excluded.allowance_s,
    holding_kinds = excluded.holding_kinds, set_at = excluded.set_at
"""
# The row is locked first, so that two requests at once count each other's expectation.
_WATCH = """
INSERT INTO missing_usage_tenants AS kept (tenant_id, tracks_sources) VALUES ($1, true)
ON CONFLICT (tenant_id) DO UPDATE SET tracks_sources = true
"""
_HOLDS = """
UPDATE missing_usage_tenants SET holds_invoices = EXISTS (
    SELECT FROM source_expectations WHERE tenant_id = $1 AND holding_kinds <> '{}')
WHERE tenant_id = $1
"""


class PostgresSourceStore:
    """SourceStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, tenant_id: str, after: str | None, limit: int) -> Sequence[Source]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_LIST, tenant_id, after, limit)
        return [
            Source(
                source=row["source"],
                expectation=None if row["heartbeat_s"] is None else _expectation_from_row(row),
                last_at=row["last_at"],
                open_findings=row["open_findings"],
            )
            for row in rows
        ]

    async def expect(
        self, mutation: MutationId, expectation: SourceExpectation, tenant_now: datetime, now: datetime
    ) -> SourceExpectation:
        tenant_id = mutation.tenant_id
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            first = await RequestLog(connection, tables.requests).claim(
                tenant_id, "SetSourceExpectation", mutation.request_id, mutation.fingerprint, expectation.source, now
            )
            if first is None:
                await driver.execute(_WATCH, tenant_id)
                await driver.execute(_SET, tenant_id, *_expectation_columns(expectation), tenant_now)
                await driver.execute(_HOLDS, tenant_id)
            row = await driver.fetchrow(_GET, tenant_id, expectation.source)
        return _expectation_from_row(row)


def _expectation_columns(expectation: SourceExpectation) -> tuple[str, int, bool, int, list[str]]:
    return (
        expectation.source,
        0 if expectation.heartbeat is None else int(expectation.heartbeat.total_seconds()),
        expectation.learns_cadence,
        int(expectation.allowance.total_seconds()),
        sorted(expectation.holding_kinds),
    )


def _expectation_from_row(row: asyncpg.Record) -> SourceExpectation:
    return SourceExpectation(
        source=row["source"],
        heartbeat=timedelta(seconds=row["heartbeat_s"]) if row["heartbeat_s"] else None,
        learns_cadence=row["learns_cadence"],
        allowance=timedelta(seconds=row["allowance_s"]),
        holding_kinds=frozenset(map(FindingKind, row["holding_kinds"])),
    )
