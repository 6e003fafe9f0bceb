"""What exact quantities are made of, in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.aggregations import NO_STATE, EventColumns
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store.measured_events import MEASURED, MERGED, POSITION, event_columns
from services.ingest.store.measured_log import measured_log
from services.ingest.store.meters import read_meter
from services.ingest.store.usage_queries import parts_of
from services.ingest.store.usage_scopes import with_scope_rows
from services.ingest.store.usage_sql import USAGE_COLUMNS, Arguments
from services.ingest.usecases.usage_parts import UsagePart
from services.ingest.usecases.usage_quantities import QuantityScope, ScopeWindows
from services.ingest.usecases.window_cover import FIRST_INSTANT

# Whoever changes a window gives it a version that is higher than any before.
_WINDOWS = """
SELECT scope.position, max(version) AS version,
    coalesce(sum(event_count) FILTER (WHERE window_start > begins_at - interval '15 minutes'), 0)::bigint AS within,
    coalesce(sum(event_count) FILTER (WHERE window_start < begins_at), 0)::bigint AS carried
FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
    WITH ORDINALITY AS scope (customer_id, start_at, end_at, begins_at, position)
JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.meter_id = $2 AND kept.customer_id = scope.customer_id
    AND window_start > start_at - interval '15 minutes' AND window_start < end_at
GROUP BY 1
"""
_LEVELS = f"""
SELECT scope.position, {MERGED[Aggregation.SUM]} AS value
FROM unnest($3::text[], $4::timestamptz[]) WITH ORDINALITY AS scope (customer_id, end_at, position)
JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.meter_id = $2 AND kept.customer_id = scope.customer_id
    AND window_start < end_at AND event_count > 0
GROUP BY 1
"""
_EVENTS = """
SELECT scope.position AS scope_position, event_time_ns, {position} AS position, {measured}
FROM unnest($3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS scope (customer_id, from_ns, to_ns, position)
JOIN {log} AS logged ON tenant_id = $1 AND logged.customer_id = scope.customer_id AND event_time_ns >= from_ns
    AND event_time_ns < to_ns
WHERE measured ? $2
"""
_EVENTS_NOW = _EVENTS.format(position=POSITION, measured=MEASURED, log=measured_log())
_EVENTS_THEN = _EVENTS.format(position=POSITION, measured=MEASURED, log=measured_log("$6::timestamptz"))


class PostgresQuantityStore:
    """QuantityStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def meters(self, tenant_id: str, meter_ids: Sequence[str]) -> Mapping[str, Meter]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            return {meter_id: await read_meter(driver, tenant_id, meter_id) for meter_id in meter_ids}

    async def windows(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], *, carried: bool
    ) -> list[ScopeWindows]:
        begins, ends = [scope.period.start for scope in scopes], [scope.period.end for scope in scopes]
        starts = [FIRST_INSTANT] * len(scopes) if carried else begins
        rows = await self._read(tenant_id, _WINDOWS, _scoped(tenant_id, meter, scopes, starts, ends, begins))
        found = {row["position"]: ScopeWindows(row["version"], row["within"], row["carried"]) for row in rows}
        return [found.get(place, ScopeWindows(0, 0, 0)) for place in range(1, len(scopes) + 1)]

    async def parts(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], known_at: datetime | None
    ) -> list[UsagePart]:
        arguments = Arguments()
        statement = (
            f"{with_scope_rows(tenant_id, meter, scopes, arguments, known_at)} SELECT {USAGE_COLUMNS} FROM usage_row"
            " ORDER BY scope, index, bucket"
        )
        return parts_of(await self._read(tenant_id, statement, arguments))

    async def levels_and_events(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]
    ) -> tuple[list[Decimal], list[EventColumns]]:
        async with self._database.snapshot(tenant_id) as connection:
            driver = await raw(connection)
            levels = await self._levels(driver, tenant_id, meter, scopes)
            return levels, await self._events(driver, tenant_id, meter, scopes, None, carried=False)

    async def events(
        self,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        known_at: datetime | None,
        *,
        carried: bool,
    ) -> list[EventColumns]:
        async with self._database.transaction(tenant_id) as connection:
            return await self._events(await raw(connection), tenant_id, meter, scopes, known_at, carried=carried)

    async def _levels(
        self, driver: asyncpg.Connection, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]
    ) -> list[Decimal]:
        arguments = _scoped(tenant_id, meter, scopes, [scope.period.start for scope in scopes])
        found = {row["position"]: row["value"] for row in await driver.fetch(_LEVELS, *arguments.values)}
        return [found.get(place, NO_STATE.value) for place in range(1, len(scopes) + 1)]

    async def _events(
        self,
        driver: asyncpg.Connection,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        known_at: datetime | None,
        *,
        carried: bool,
    ) -> list[EventColumns]:
        starts = [to_ns(FIRST_INSTANT if carried else scope.period.start) for scope in scopes]
        arguments = _scoped(tenant_id, meter, scopes, starts, [to_ns(scope.period.end) for scope in scopes])
        if known_at is not None:
            arguments.put(known_at)
        of_scope: list[list[asyncpg.Record]] = [[] for _ in scopes]
        for row in await driver.fetch(_EVENTS_NOW if known_at is None else _EVENTS_THEN, *arguments.values):
            of_scope[row["scope_position"] - 1].append(row)
        return [event_columns(meter, rows) for rows in of_scope]

    async def _read(self, tenant_id: str, statement: str, arguments: Arguments) -> list[asyncpg.Record]:
        async with self._database.transaction(tenant_id) as connection:
            rows: list[asyncpg.Record] = await (await raw(connection)).fetch(statement, *arguments.values)
        return rows


def _scoped(
    tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], *bounds: Sequence[datetime | int]
) -> Arguments:
    return Arguments(tenant_id, meter.meter_id, [scope.customer_id for scope in scopes], *bounds)
