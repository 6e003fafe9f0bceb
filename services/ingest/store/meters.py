"""Meters in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg
import orjson

from libs.database import Database, RequestLog, raw
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.store import tables
from services.ingest.store.meter_options import filters_from_json, filters_to_json, options_from_json, options_to_json
from services.ingest.usecases.create_meter import CreateMeterRequest
from services.ingest.usecases.errors import MeterExists, MeterNotFound

_COUNTS = "SELECT tenant_id, count(*) AS meters FROM meters WHERE tenant_id = ANY ($1::text[]) GROUP BY tenant_id"
_OF_TENANTS = """
SELECT tenant_id, meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, options,
    created_at
FROM meters WHERE tenant_id = ANY ($1::text[]) ORDER BY tenant_id, meter_id
"""
_GET = """
SELECT meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, options, created_at
FROM meters WHERE tenant_id = $1 AND meter_id = $2
"""
_LIST = """
SELECT meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, options, created_at
FROM meters WHERE tenant_id = $1 AND meter_id > $2 ORDER BY meter_id LIMIT $3
"""
_OF_NOTES = """
SELECT tenant_id, meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, options,
    created_at
FROM unnest($1::text[], $2::text[]) AS noted (tenant_id, meter_id) JOIN meters USING (tenant_id, meter_id)
"""
_ADD = """
INSERT INTO meters (
    tenant_id, meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, options,
    created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10::text::jsonb, $11)
ON CONFLICT DO NOTHING RETURNING meter_id
"""
_NOTE = "INSERT INTO meter_publications (tenant_id, meter_id, due_at) VALUES ($1, $2, $3)"


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
        **options_from_json(row["options"]),
    )


async def read_meter(driver: asyncpg.Connection, tenant_id: str, meter_id: str) -> Meter:
    """
    :raises MeterNotFound: if this transaction sees no such meter
    """
    row = await driver.fetchrow(_GET, tenant_id, meter_id)
    if row is None:
        raise MeterNotFound(f"there is no meter {meter_id}", meterId=meter_id)
    return meter_from_row(row)


async def read_meters(driver: asyncpg.Connection, tenant_id: str) -> list[Meter]:
    """Return all meters of a tenant."""
    return [meter_from_row(row) for row in await driver.fetch(_OF_TENANTS, [tenant_id])]


async def read_noted(driver: asyncpg.Connection, noted: Sequence[tuple[str, str]]) -> list[tuple[str, Meter]]:
    """Return meters of several tenants by (tenant id, meter id)."""
    rows = await driver.fetch(_OF_NOTES, [tenant_id for tenant_id, _ in noted], [meter_id for _, meter_id in noted])
    return [(row["tenant_id"], meter_from_row(row)) for row in rows]


class PostgresMeterStore:
    """MeterStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
                return await read_meter(driver, request.tenant_id, first)
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
            )
            if added is None:
                raise MeterExists(f"there is a meter {meter.meter_id}", meterId=meter.meter_id)
            await driver.execute(_NOTE, request.tenant_id, meter.meter_id, meter.created_at)
            return await read_meter(driver, request.tenant_id, meter.meter_id)

    async def get(self, tenant_id: str, meter_id: str) -> Meter:
        async with self._database.transaction(tenant_id) as connection:
            return await read_meter(await raw(connection), tenant_id, meter_id)

    async def list(self, tenant_id: str, after: str, limit: int) -> list[Meter]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_LIST, tenant_id, after, limit)
        return [meter_from_row(row) for row in rows]


class MeterCache:
    """The meters of tenants, read again when there are more of them: meters are added, never changed or removed."""

    def __init__(self) -> None:
        self._meters: dict[str, Sequence[Meter]] = {}

    async def read(self, driver: asyncpg.Connection, tenant_ids: Sequence[str]) -> Mapping[str, Sequence[Meter]]:
        """Return the meters of each tenant as this transaction sees them."""
        counts = {row["tenant_id"]: row["meters"] for row in await driver.fetch(_COUNTS, tenant_ids)}
        # Of this moment: while we read others, a slower recorder may put back what it has read before us.
        known = {tenant: self._meters.get(tenant, ()) for tenant in tenant_ids}
        stale = [tenant for tenant, count in counts.items() if count != len(known[tenant])]
        if stale:
            found: dict[str, list[Meter]] = {tenant: [] for tenant in stale}
            for row in await driver.fetch(_OF_TENANTS, stale):
                found[row["tenant_id"]].append(meter_from_row(row))
            self._meters.update(found)
            known |= found
        return known
