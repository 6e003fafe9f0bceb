"""What exact quantities are made of, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.aggregations import NO_STATE, EventColumns, WindowState
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store.effective_events import EFFECTIVE
from services.ingest.store.measured_events import MEASURED, MERGED, POSITION, event_columns
from services.ingest.store.meters import read_meter
from services.ingest.usecases.usage_quantities import QuantityScope

# The beginning of time for what is carried over; windows and events before it are refused at the door.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)

# Whoever changes a window gives it a version that is higher than any before.
_VERSIONS = """
SELECT scope.position, max(version) AS version
FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[])
    WITH ORDINALITY AS scope (customer_id, start_at, end_at, position)
JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.meter_id = $2 AND kept.customer_id = scope.customer_id
    AND window_start > start_at - interval '15 minutes' AND window_start < end_at
GROUP BY 1
"""
_STATES = """
SELECT scope.position, {merged} AS value, sum(event_count)::bigint AS event_count
FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[])
    WITH ORDINALITY AS scope (customer_id, start_at, end_at, position)
JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.meter_id = $2 AND kept.customer_id = scope.customer_id
    AND window_start >= start_at AND window_start < end_at AND event_count > 0
GROUP BY 1
"""
_EVENTS = f"""
SELECT scope.position AS scope_position, event_time_ns, {POSITION} AS position, {MEASURED}
FROM unnest($3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS scope (customer_id, from_ns, to_ns, position)
JOIN events ON tenant_id = $1 AND events.customer_id = scope.customer_id AND event_time_ns >= from_ns
    AND event_time_ns < to_ns
WHERE measured ? $2 AND {EFFECTIVE}
"""  # noqa: S608 - put together from constants


class PostgresQuantityStore:
    """QuantityStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def meters(self, tenant_id: str, meter_ids: Sequence[str]) -> Mapping[str, Meter]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            return {meter_id: await read_meter(driver, tenant_id, meter_id) for meter_id in meter_ids}

    async def versions(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[int]:
        found = dict(await self._read(_VERSIONS, tenant_id, meter, scopes, _instants(meter, scopes)))
        return [found.get(place, 0) for place in range(1, len(scopes) + 1)]

    async def states(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[WindowState]:
        statement = _STATES.format(merged=MERGED[meter.window_aggregation])
        rows = await self._read(statement, tenant_id, meter, scopes, _instants(meter, scopes))
        found = {row["position"]: WindowState(row["event_count"], row["value"]) for row in rows}
        return [found.get(place, NO_STATE) for place in range(1, len(scopes) + 1)]

    async def levels(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[Decimal]:
        starts = [scope.period.start for scope in scopes]
        bounds = ([_FIRST] * len(scopes), starts)
        rows = await self._read(_STATES.format(merged=MERGED[Aggregation.SUM]), tenant_id, meter, scopes, bounds)
        found = {row["position"]: row["value"] for row in rows}
        return [found.get(place, NO_STATE.value) for place in range(1, len(scopes) + 1)]

    async def events(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], *, carried: bool
    ) -> list[EventColumns]:
        starts = [_FIRST if carried else scope.period.start for scope in scopes]
        bounds = [list(map(to_ns, column)) for column in (starts, [scope.period.end for scope in scopes])]
        of_scope: list[list[asyncpg.Record]] = [[] for _ in scopes]
        for row in await self._read(_EVENTS, tenant_id, meter, scopes, bounds):
            of_scope[row["scope_position"] - 1].append(row)
        return [event_columns(meter, rows) for rows in of_scope]

    async def _read(
        self,
        statement: str,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        bounds: Sequence[Sequence[object]],
    ) -> list[asyncpg.Record]:
        customers = [scope.customer_id for scope in scopes]
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            rows: list[asyncpg.Record] = await driver.fetch(statement, tenant_id, meter.meter_id, customers, *bounds)
        return rows


def _instants(meter: Meter, scopes: Sequence[QuantityScope]) -> tuple[list[datetime], list[datetime]]:
    """From when to when the meter looks at each scope."""
    starts = [_FIRST if meter.carry_over else scope.period.start for scope in scopes]
    return starts, [scope.period.end for scope in scopes]
