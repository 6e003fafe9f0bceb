"""Versions of meters in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, RequestLog, raw
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_versions import (
    MAX_VERSIONS,
    MeterVersion,
    fixed_differences,
    presentation_differs,
)
from services.ingest.store import tables
from services.ingest.store.meters import change_alone, note_publication, read_meter
from services.ingest.usecases.change_meter import MeterChange
from services.ingest.usecases.errors import (
    MeterArchived,
    MeterDefinitionFixed,
    MeterVersionChanged,
    MeterVersionLimit,
)

_ADD = """
INSERT INTO meter_versions (
    tenant_id, meter_id, version, display_name, description, archived_at, actor, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
# Recorders hold the lock together while they count; whoever ends a meter holds it alone. So everything recorded before
# the meter ends is committed and seen by the statement that chooses the moment, and whoever records later sees it.
HOLD_COUNTING = """
SELECT pg_advisory_xact_lock_shared(hashtextextended('ingest:counting:' || tenant_id, 0))
FROM unnest($1::text[]) AS tenant_id
"""
STOP_COUNTING = "SELECT pg_advisory_xact_lock(hashtextextended('ingest:counting:' || $1::text, 0))"
_END = """
SELECT greatest($2::timestamptz, max(received_at) + interval '1 microsecond') AS archived_at
FROM events WHERE tenant_id = $1
"""
_VERSIONS = """
SELECT version, display_name, description, archived_at, created_at, actor FROM (
    SELECT 1 AS version, display_name, description, NULL::timestamptz AS archived_at, created_at, actor
    FROM meters WHERE tenant_id = $1 AND meter_id = $2
    UNION ALL
    SELECT version, display_name, description, archived_at, created_at, actor
    FROM meter_versions WHERE tenant_id = $1 AND meter_id = $2
) AS versions WHERE version < $3 ORDER BY version DESC LIMIT $4
"""


class PostgresMeterChanges:
    """MeterChanges; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(self, change: MeterChange, wanted: Meter, expected_version: int, now: datetime) -> Meter:
        async with self._database.transaction(change.tenant_id) as connection:
            driver = await raw(connection)
            await change_alone(driver, change.tenant_id)
            meter = await read_meter(driver, change.tenant_id, change.meter_id)
            differs = presentation_differs(meter, wanted)
            version = meter.version + 1 if differs else meter.version
            first = await _claim(connection, "UpdateMeter", change, version, now)
            if first is not None:
                return await read_meter(driver, change.tenant_id, change.meter_id, first)
            _check_update(meter, wanted, expected_version)
            if not differs:
                return meter
            await note_publication(driver, change.tenant_id, change.meter_id, now)
            texts = wanted.display_name, wanted.description
            return await _add(driver, change, meter, texts, meter.archived_at, now)

    async def archive(self, change: MeterChange, now: datetime) -> Meter:
        async with self._database.transaction(change.tenant_id) as connection:
            driver = await raw(connection)
            await change_alone(driver, change.tenant_id)
            meter = await read_meter(driver, change.tenant_id, change.meter_id)
            first = await _claim(connection, "ArchiveMeter", change, meter.version + 1, now)
            if first is not None:
                return await read_meter(driver, change.tenant_id, change.meter_id, first)
            if meter.archived_at is not None:
                raise MeterArchived(f"meter {meter.meter_id} is archived", meterId=meter.meter_id)
            # Before recorders are stopped: whoever publishes the meter at this moment may keep us waiting.
            await note_publication(driver, change.tenant_id, change.meter_id, now)
            await driver.execute(STOP_COUNTING, change.tenant_id)
            archived_at = await driver.fetchval(_END, change.tenant_id, now)
            return await _add(driver, change, meter, (meter.display_name, meter.description), archived_at, now)

    async def versions(self, tenant_id: str, meter_id: str, before: int, limit: int) -> list[MeterVersion]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            await read_meter(driver, tenant_id, meter_id)
            rows = await driver.fetch(_VERSIONS, tenant_id, meter_id, before, limit)
        return [MeterVersion(**row) for row in rows]


async def _claim(
    connection: AsyncConnection, method: str, change: MeterChange, version: int, now: datetime
) -> int | None:
    """The version that the first call with this request id came to, or None if this is the first."""
    first = await RequestLog(connection, tables.requests).claim(
        change.tenant_id, method, change.request_id, change.fingerprint, str(version), now
    )
    return None if first is None else int(first)


def _check_update(meter: Meter, wanted: Meter, expected_version: int) -> None:
    if expected_version not in (0, meter.version):
        raise MeterVersionChanged(
            f"meter {meter.meter_id} is at version {meter.version}",
            meterId=meter.meter_id,
            version=str(meter.version),
        )
    different = fixed_differences(meter, wanted)
    if different:
        raise MeterDefinitionFixed(
            f"meter {meter.meter_id} never measures anything else ({', '.join(different)}): make a new meter",
            meterId=meter.meter_id,
            fields=",".join(different),
        )
    # The last one is kept for archiving.
    if meter.version >= MAX_VERSIONS - 1 and presentation_differs(meter, wanted):
        raise MeterVersionLimit(f"meter {meter.meter_id} has {meter.version} versions", meterId=meter.meter_id)


async def _add(
    driver: asyncpg.Connection,
    change: MeterChange,
    meter: Meter,
    texts: tuple[str, str],
    archived_at: datetime | None,
    now: datetime,
) -> Meter:
    version = meter.version + 1
    await driver.execute(_ADD, change.tenant_id, change.meter_id, version, *texts, archived_at, change.actor, now)
    return await read_meter(driver, change.tenant_id, change.meter_id, version)
