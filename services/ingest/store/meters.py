"""Meters in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import orjson

from libs.database import Database, RequestLog, raw
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.meter_versions import ARCHIVED_PER_LIVE
from services.ingest.store import tables
from services.ingest.store.meter_options import filters_from_json, filters_to_json, options_from_json, options_to_json
from services.ingest.usecases.create_meter import CreateMeterRequest
from services.ingest.usecases.errors import MeterExists, MeterLimit, MeterNotFound

DEFAULT_MAX_METERS = 500

_MOST_VERSIONS = 1 << 30
# A row of `meters` is version 1; what changes comes from the newest of the others, up to the one that is asked for.
_METERS = """
SELECT meters.tenant_id, meters.meter_id, coalesce(newest.display_name, meters.display_name) AS display_name,
    coalesce(newest.description, meters.description) AS description, event_type, aggregation, expression, filters,
    group_by, unit, options, meters.created_at, coalesce(newest.version, 1) AS version, newest.archived_at
FROM meters LEFT JOIN LATERAL (
    SELECT version, display_name, description, archived_at FROM meter_versions
    WHERE (meter_versions.tenant_id, meter_versions.meter_id) = (meters.tenant_id, meters.meter_id)
        AND version <= {upto}
    ORDER BY version DESC LIMIT 1
) AS newest ON true
"""
_NEWEST = _METERS.format(upto=_MOST_VERSIONS)
_OF_TENANTS = _NEWEST + "WHERE meters.tenant_id = ANY ($1::text[]) ORDER BY meters.tenant_id, meters.meter_id"
_GET = _METERS.format(upto="$3") + "WHERE meters.tenant_id = $1 AND meters.meter_id = $2"
_LIST = _NEWEST + "WHERE meters.tenant_id = $1 AND meters.meter_id > $2 ORDER BY meters.meter_id LIMIT $3"
_OF_NOTES = (
    _NEWEST
    + "JOIN unnest($1::text[], $2::text[]) AS noted (tenant_id, meter_id)"
    + " ON (noted.tenant_id, noted.meter_id) = (meters.tenant_id, meters.meter_id)"
)
_ADD = """
INSERT INTO meters (
    tenant_id, meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, options,
    created_at, description, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10::text::jsonb, $11, $12, $13)
ON CONFLICT DO NOTHING RETURNING meter_id
"""
_COUNT = """
SELECT count(*) AS meters, count(*) FILTER (WHERE NOT EXISTS (
    SELECT FROM meter_versions WHERE (meter_versions.tenant_id, meter_versions.meter_id)
        = (meters.tenant_id, meters.meter_id) AND archived_at IS NOT NULL)) AS live
FROM meters WHERE tenant_id = $1
"""
_NOTE = """
INSERT INTO meter_publications (tenant_id, meter_id, due_at) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, meter_id) DO UPDATE SET due_at = $3
"""
# Who adds or changes meters of a tenant does so alone: that is how limits hold and versions have no gaps.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('ingest:meters:' || $1::text, 0))"


def meter_from_row(row: asyncpg.Record) -> Meter:
    return Meter(
        meter_id=row["meter_id"],
        display_name=row["display_name"],
        event_type=row["event_type"],
        aggregation=Aggregation(row["aggregation"]),
        expression=row["expression"],
        filters=filters_from_json(row["filters"]),
        group_by=tuple(row["group_by"]),
        unit=row["unit"],
        created_at=row["created_at"],
        description=row["description"],
        version=row["version"],
        archived_at=row["archived_at"],
        **options_from_json(row["options"]),
    )


async def read_meter(driver: asyncpg.Connection, tenant_id: str, meter_id: str, version: int = _MOST_VERSIONS) -> Meter:
    """Return the meter as it was in a version, which there must have been, or as it is now.

    :raises MeterNotFound: if this transaction sees no such meter
    """
    row = await driver.fetchrow(_GET, tenant_id, meter_id, version)
    if row is None:
        raise MeterNotFound(f"there is no meter {meter_id}", meterId=meter_id)
    return meter_from_row(row)


async def read_meters(driver: asyncpg.Connection, tenant_id: str) -> list[Meter]:
    """Return all meters of a tenant."""
    return [meter for _, meter in await read_meters_of(driver, [tenant_id])]


async def read_meters_of(driver: asyncpg.Connection, tenant_ids: Sequence[str]) -> list[tuple[str, Meter]]:
    """Return all meters of tenants with their tenant ids."""
    return [(row["tenant_id"], meter_from_row(row)) for row in await driver.fetch(_OF_TENANTS, tenant_ids)]


async def change_alone(driver: asyncpg.Connection, tenant_id: str) -> None:
    """Wait until nobody else adds or changes meters of the tenant; nobody does until this transaction ends."""
    await driver.execute(_ALONE, tenant_id)


async def note_publication(driver: asyncpg.Connection, tenant_id: str, meter_id: str, now: datetime) -> None:
    """Have the meter put into the directory as it is after this transaction."""
    await driver.execute(_NOTE, tenant_id, meter_id, now)


async def read_noted(driver: asyncpg.Connection, noted: Sequence[tuple[str, str]]) -> list[tuple[str, Meter]]:
    """Return meters of several tenants by (tenant id, meter id)."""
    rows = await driver.fetch(_OF_NOTES, [tenant_id for tenant_id, _ in noted], [meter_id for _, meter_id in noted])
    return [(row["tenant_id"], meter_from_row(row)) for row in rows]


class PostgresMeterStore:
    """MeterStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database, max_meters: int = DEFAULT_MAX_METERS) -> None:
        """`max_meters` of a tenant may be live, and ten times as many with those that are archived."""
        self._database = database
        self._max_meters = max_meters

    async def create(self, request: CreateMeterRequest) -> Meter:
        meter = request.meter
        if meter.created_at is None:
            raise ValueError("a meter is stored with its time of creation")
        async with self._database.transaction(request.tenant_id) as connection:
            driver = await raw(connection)
            first = await RequestLog(connection, tables.requests).claim(
                request.tenant_id,
                "CreateMeter",
                request.request_id,
                request.fingerprint,
                meter.meter_id,
                meter.created_at,
            )
            if first is not None:
                return await read_meter(driver, request.tenant_id, first, 1)
            await change_alone(driver, request.tenant_id)
            added = await driver.fetchval(
                _ADD,
                request.tenant_id,
                meter.meter_id,
                meter.display_name,
                meter.event_type,
                meter.aggregation,
                meter.expression,
                orjson.dumps(filters_to_json(meter.filters)).decode(),
                list(meter.group_by),
                meter.unit,
                orjson.dumps(options_to_json(meter)).decode(),
                meter.created_at,
                meter.description,
                request.actor,
            )
            if added is None:
                raise MeterExists(f"there is a meter {meter.meter_id}", meterId=meter.meter_id)
            self._check_limit(await driver.fetchrow(_COUNT, request.tenant_id))
            await note_publication(driver, request.tenant_id, meter.meter_id, meter.created_at)
            return await read_meter(driver, request.tenant_id, meter.meter_id)

    def _check_limit(self, counted: asyncpg.Record) -> None:
        limits = {"live": self._max_meters, "meters": self._max_meters * ARCHIVED_PER_LIVE}
        for name, limit in limits.items():
            if counted[name] > limit:
                which = "that are not archived" if name == "live" else "with archived ones"
                raise MeterLimit(f"there are {limit} meters {which}, as many as may be", limit=str(limit), counted=name)

    async def get(self, tenant_id: str, meter_id: str) -> Meter:
        async with self._database.transaction(tenant_id) as connection:
            return await read_meter(await raw(connection), tenant_id, meter_id)

    async def list(self, tenant_id: str, after: str, limit: int) -> list[Meter]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_LIST, tenant_id, after, limit)
        return [meter_from_row(row) for row in rows]
