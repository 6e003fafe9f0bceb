"""Findings in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from libs.database import Database, RequestLog, raw
from services.ingest.domain.findings import Finding, FindingKind, Resolution
from services.ingest.store import missing_usage_sql as sql
from services.ingest.store import tables
from services.ingest.usecases.errors import FindingAlreadyResolved, FindingNotFound
from services.ingest.usecases.missing_usage_requests import FindingSelection, MutationId, ResolutionRequest

_READ = f"""
SELECT finding_id, kind, source, evidence, opened_at, updated_at, resolved_at, resolution, reason, actor,
    resolved_at IS NULL AND coalesce(kind = ANY (holding_kinds), false) AS holds_invoices
FROM findings AS item LEFT JOIN {sql.expectation_of("item")} AS expected ON true
WHERE item.tenant_id = $1
"""  # noqa: S608 - put together from constants
_GET = f"{_READ} AND finding_id = $2"
_LIST = f"""
{_READ} AND ($2 = '' OR source = $2) AND ($3 = '' OR kind = $3) AND ($4 OR resolved_at IS NULL)
    AND ($5::timestamptz IS NULL OR (opened_at, finding_id) < ($5, $6::text))
ORDER BY opened_at DESC, finding_id DESC LIMIT $7
"""
_RESOLVE = """
UPDATE findings SET resolved_at = $3, updated_at = $3, resolution = 'person', reason = $4, actor = $5
WHERE tenant_id = $1 AND finding_id = $2 AND resolved_at IS NULL RETURNING finding_id
"""


class PostgresFindingStore:
    """FindingStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, tenant_id: str, selection: FindingSelection, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Finding]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(
                _LIST,
                tenant_id,
                selection.source,
                selection.kind or "",
                selection.include_resolved,
                *(before or (None, None)),
                limit,
            )
        return [_finding_from_row(row) for row in rows]

    async def resolve(self, mutation: MutationId, request: ResolutionRequest, now: datetime) -> Finding:
        tenant_id = mutation.tenant_id
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            first = await RequestLog(connection, tables.requests).claim(
                tenant_id, "ResolveFinding", mutation.request_id, mutation.fingerprint, request.finding_id, now
            )
            if first is None:
                resolved = await driver.fetchval(
                    _RESOLVE, tenant_id, request.finding_id, now, request.reason, request.actor
                )
                found = await _get(driver, tenant_id, request.finding_id)
                if resolved is None:
                    raise FindingAlreadyResolved(f"{found.finding_id} has ended", findingId=found.finding_id)
                return found
            return await _get(driver, tenant_id, first)


async def _get(driver: asyncpg.Connection, tenant_id: str, finding_id: str) -> Finding:
    row = await driver.fetchrow(_GET, tenant_id, finding_id)
    if row is None:
        raise FindingNotFound(f"there is no finding {finding_id}", findingId=finding_id)
    return _finding_from_row(row)


def _finding_from_row(row: asyncpg.Record) -> Finding:
    return Finding(
        finding_id=row["finding_id"],
        kind=FindingKind(row["kind"]),
        source=row["source"],
        holds_invoices=row["holds_invoices"],
        evidence=row["evidence"],
        opened_at=row["opened_at"],
        updated_at=row["updated_at"],
        resolved_at=row["resolved_at"],
        resolution=Resolution(row["resolution"]),
        reason=row["reason"],
        actor=row["actor"],
    )
