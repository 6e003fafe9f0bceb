"""Manifests in PostgreSQL, as callers submit and list them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from libs.database import Database, RequestLog, raw
from libs.errors import InvalidInput, Violation
from libs.ids import new_id
from services.ingest.domain.findings import Manifest
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store import tables
from services.ingest.store.manifest_rows import COLUMNS, lines_to_json, manifest_from_row
from services.ingest.store.meters import read_meters
from services.ingest.usecases.errors import MeterNotFound
from services.ingest.usecases.missing_usage_requests import ManifestRequest, MutationId

_GET = f"SELECT {COLUMNS} FROM manifests WHERE tenant_id = $1 AND manifest_id = $2"  # noqa: S608
_LIST = f"""
SELECT {COLUMNS} FROM manifests
WHERE tenant_id = $1 AND ($2::timestamptz IS NULL OR (submitted_at, manifest_id) < ($2, $3::text))
ORDER BY submitted_at DESC, manifest_id DESC LIMIT $4
"""  # noqa: S608 - put together from constants
# Two manifests of a source at once would take the same version.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('ingest:manifest:' || $1 || ':' || $2, 0))"
_ADD = """
INSERT INTO manifests (
    tenant_id, manifest_id, source, period_start, period_end, lines, submitted_at, compare_after, state, version)
SELECT $1, $2, $3, $4, $5, $6::text::jsonb, $7, $7, 'pending', coalesce(max(version), 0) + 1
FROM manifests WHERE tenant_id = $1 AND source = $3 AND period_start = $4 AND period_end = $5
"""
_REPLACE = """
UPDATE manifests SET state = 'replaced'
WHERE tenant_id = $1 AND source = $2 AND period_start = $3 AND period_end = $4 AND state <> 'replaced'
RETURNING manifest_id
"""
_END_FINDINGS = """
UPDATE findings SET resolved_at = $3, updated_at = $3, resolution = 'itself'
WHERE tenant_id = $1 AND kind = 'manifest_disagrees' AND subject = ANY ($2::text[]) AND resolved_at IS NULL
"""
_NOTE_TENANT = "INSERT INTO missing_usage_tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING"


class PostgresManifestStore:
    """ManifestStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, tenant_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Manifest]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_LIST, tenant_id, *(before or (None, None)), limit)
        return [manifest_from_row(row) for row in rows]

    async def submit(self, mutation: MutationId, request: ManifestRequest, now: datetime) -> Manifest:
        tenant_id, manifest_id = mutation.tenant_id, new_id("manifest")
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            first = await RequestLog(connection, tables.requests).claim(
                tenant_id, "SubmitManifest", mutation.request_id, mutation.fingerprint, manifest_id, now
            )
            if first is None:
                await _check_meters(driver, tenant_id, request)
                await _replace(driver, tenant_id, manifest_id, request, now)
            row = await driver.fetchrow(_GET, tenant_id, first or manifest_id)
        return manifest_from_row(row)


async def _check_meters(driver: asyncpg.Connection, tenant_id: str, request: ManifestRequest) -> None:
    """
    :raises MeterNotFound, InvalidInput: if a line is about a meter that is not there, or sums texts up
    """
    meters = {meter.meter_id: meter for meter in await read_meters(driver, tenant_id)}
    for index, line in enumerate(request.lines):
        meter = meters.get(line.meter_id)
        if meter is None:
            raise MeterNotFound(f"there is no meter {line.meter_id}", meterId=line.meter_id)
        if line.total is not None and meter.event_aggregation is Aggregation.UNIQUE_COUNT:
            description = "must be empty: a unique count adds nothing up"
            raise InvalidInput([Violation(f"manifest.lines[{index}].sum", "NOT_ALLOWED", description)])


async def _replace(
    driver: asyncpg.Connection, tenant_id: str, manifest_id: str, request: ManifestRequest, now: datetime
) -> None:
    period = request.source, request.start, request.end
    await driver.execute(_LOCK, tenant_id, request.source)
    replaced = [row["manifest_id"] for row in await driver.fetch(_REPLACE, tenant_id, *period)]
    await driver.execute(_END_FINDINGS, tenant_id, replaced, now)
    await driver.execute(_ADD, tenant_id, manifest_id, *period, lines_to_json(request.lines), now)
    await driver.execute(_NOTE_TENANT, tenant_id)
