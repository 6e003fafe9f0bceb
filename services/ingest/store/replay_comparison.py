"""The building of replays: events measured later, and windows compared with the log."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import orjson

from libs.periods import WINDOW
from services.ingest.domain.meter import Meter
from services.ingest.domain.replays import (
    LAST_INSTANT,
    LaterReading,
    LoggedEvents,
    ReplayScope,
    dimensions_of,
)
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.store.effective_events import EFFECTIVE
from services.ingest.store.logged_states import NUMBER, PLACE, STATE, WINDOW_NS, LoggedStates
from services.ingest.store.measured_log import MEASURED_LOG
from services.ingest.store.usage_sql import Arguments
from services.ingest.usecases.replay_ports import ComparedSlice, LogPage

PAGE_EVENTS = 5_000
"""Measured in Python, in one transaction."""
SLICE_EVENTS = 100_000
"""Compared by one statement, or those of one window, if it has more."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_COUNT = "SELECT count(*) FROM events WHERE tenant_id = $1 AND event_time_ns >= $2 AND event_time_ns < $3 {customers}"
_FAR = """
SELECT count(*) AS events, max(event_time_ns) AS last_ns FROM (
    SELECT event_time_ns FROM events
    WHERE tenant_id = $1 AND event_time_ns >= $2 AND event_time_ns < $3 {customers}
    ORDER BY event_time_ns LIMIT {limit}
) AS next
"""
# Only of what may have to be measured, and counts, is more read than where it lies.
_PAGE = f"""
SELECT event_time_ns, batch_id, ordinal, received_at, asked.source, event_id, event_type, customer_id,
    CASE WHEN is_asked THEN properties END AS properties,
    CASE WHEN is_asked THEN ARRAY(SELECT jsonb_object_keys(measured)) || ARRAY(
        SELECT meter_id::text FROM backfilled_events AS later
        WHERE (later.tenant_id, later.received_at, later.batch_id, later.ordinal)
            = ($1, asked.received_at, asked.batch_id, asked.ordinal)) END AS measured_by
FROM (
    SELECT event_time_ns, batch_id, ordinal, received_at, source, event_id, event_type, customer_id, properties,
        measured, event_type = ANY ($4::text[]) AND NOT measured ?& $5::text[] AND {EFFECTIVE} AS is_asked
    FROM events
    WHERE tenant_id = $1 AND event_time_ns >= $2 AND event_time_ns < $3
        AND ($6::bigint IS NULL OR (event_time_ns, batch_id, ordinal) > ($2, $6, $7::int)) {{customers}}
    ORDER BY event_time_ns, batch_id, ordinal LIMIT {{limit}}
) AS asked
"""
_KEEP = """
INSERT INTO replay_measurements (tenant_id, replay_id, meter_id, received_at, batch_id, ordinal, source, event_id,
    event_type, customer_id, event_time_ns, properties, value)
SELECT $1, $2, $3, received_at, batch_id, ordinal, source, event_id, event_type, customer_id, event_time_ns,
    properties::jsonb, value
FROM unnest(
    $4::timestamptz[], $5::bigint[], $6::int[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[],
    $12::text[], $13::text[]
) AS kept (
    received_at, batch_id, ordinal, source, event_id, event_type, customer_id, event_time_ns, properties, value)
"""
_KEPT_LOG = f"""(
    SELECT tenant_id, replay_id, batch_id, ordinal, customer_id, event_time_ns, properties,
        jsonb_build_object(meter_id, value) AS measured
    FROM replay_measurements AS events WHERE {EFFECTIVE}
) AS kept_aside"""


async def count_events(driver: asyncpg.Connection, tenant_id: str, scope: ReplayScope) -> int:
    arguments = Arguments(tenant_id, scope.first_ns, scope.end_ns)
    statement = _COUNT.format(customers=_of_customers(scope, arguments))
    counted: int = await driver.fetchval(statement, *arguments.values)
    return counted


async def read_page(
    driver: asyncpg.Connection,
    tenant_id: str,
    scope: ReplayScope,
    meters: Sequence[Meter],
    after: tuple[int, int, int] | None,
) -> LogPage:
    first_ns, batch_id, ordinal = after or (scope.first_ns, None, None)
    types, ids = sorted({meter.event_type for meter in meters}), [meter.meter_id for meter in meters]
    arguments = Arguments(tenant_id, first_ns, scope.end_ns, types, ids, batch_id, ordinal)
    statement = _PAGE.format(customers=_of_customers(scope, arguments), limit=PAGE_EVENTS)
    found = await driver.fetch(statement, *arguments.values)
    # Rows come in no certain order from the outside of a sub-select; there are few.
    last = max(((row["event_time_ns"], row["batch_id"], row["ordinal"]) for row in found), default=None)
    rows = [row for row in found if row["properties"] is not None]
    logged = LoggedEvents(
        events=UsageColumns(
            event_ids=[row["event_id"] for row in rows],
            sources=[row["source"] for row in rows],
            event_types=[row["event_type"] for row in rows],
            customer_ids=[row["customer_id"] for row in rows],
            times_ns=[row["event_time_ns"] for row in rows],
            properties=[row["properties"] for row in rows],
        ),
        received_at=[row["received_at"] for row in rows],
        positions=[(row["batch_id"], row["ordinal"]) for row in rows],
        measured_by=[frozenset(row["measured_by"]) for row in rows],
    )
    return LogPage(logged, last if len(found) == PAGE_EVENTS else None, len(found))


async def keep_readings(
    driver: asyncpg.Connection, tenant_id: str, replay_id: str, logged: LoggedEvents, readings: Sequence[LaterReading]
) -> int:
    events = logged.events
    for reading in readings:
        rows, meter = reading.rows, reading.meter
        await driver.execute(
            _KEEP,
            *(tenant_id, replay_id, meter.meter_id),
            [logged.received_at[row] for row in rows],
            [logged.positions[row][0] for row in rows],
            [logged.positions[row][1] for row in rows],
            [events.sources[row] for row in rows],
            [events.event_ids[row] for row in rows],
            [events.event_types[row] for row in rows],
            [events.customer_ids[row] for row in rows],
            [events.times_ns[row] for row in rows],
            [orjson.dumps(dimensions_of(meter, events.properties[row])).decode() for row in rows],
            list(reading.texts),
        )
    return sum(len(reading.rows) for reading in readings)


async def compare_slice(
    driver: asyncpg.Connection,
    tenant_id: str,
    replay_id: str,
    scope: ReplayScope,
    meters: Sequence[Meter],
    start_ns: int,
    *,
    with_kept: bool,
) -> ComparedSlice:
    """Compare from `start_ns`, which is the start of a window, as far as SLICE_EVENTS go."""
    arguments = Arguments(tenant_id, start_ns, scope.end_ns)
    far = await driver.fetchrow(
        _FAR.format(customers=_of_customers(scope, arguments), limit=SLICE_EVENTS), *arguments.values
    )
    events, end_ns = far["events"], scope.end_ns
    if events == SLICE_EVENTS:
        window_ns = far["last_ns"] // WINDOW_NS * WINDOW_NS
        end_ns = min(window_ns if window_ns > start_ns else start_ns + WINDOW_NS, scope.end_ns)
        arguments = Arguments(tenant_id, start_ns, end_ns)
        events = await driver.fetchval(_COUNT.format(customers=_of_customers(scope, arguments)), *arguments.values)
    row = await _compare(driver, tenant_id, replay_id, scope, meters, (start_ns, end_ns), with_kept=with_kept)
    return ComparedSlice(end_ns if end_ns < scope.end_ns else None, events, row["windows"], row["differing"])


async def _compare(
    driver: asyncpg.Connection,
    tenant_id: str,
    replay_id: str,
    scope: ReplayScope,
    meters: Sequence[Meter],
    bounds_ns: tuple[int, int],
    *,
    with_kept: bool,
) -> asyncpg.Record:
    """One statement, hence one moment: what recorders commit is on both sides of it, or on none."""
    arguments = Arguments(tenant_id, replay_id, *bounds_ns, *(map(_instant, bounds_ns)))
    states, customers = LoggedStates(meters, arguments), _of_customers(scope, arguments)
    where = f"tenant_id = $1 AND event_time_ns >= $3 AND event_time_ns < $4 {customers}"
    reading = states.reading(f"{MEASURED_LOG} AS logged", where)
    if with_kept:
        reading += f" UNION ALL {states.reading(_KEPT_LOG, f'{where} AND replay_id = $2', is_kept=True)}"
    return await driver.fetchrow(
        f"""
WITH {states.rule}, reading AS ({reading}), {states.logged()}, live AS (
    SELECT window_key, usage_windows.meter_id, customer_id, {NUMBER} AS number, dimensions, {STATE},
        window_start <> to_timestamp({NUMBER} * 900) AS is_astray
    FROM usage_windows JOIN rule ON rule.meter_id = usage_windows.meter_id
    WHERE tenant_id = $1 AND window_start >= $5 AND window_start < $6 {customers}
        AND (event_count <> 0 OR value <> 0) -- Empty is the same as absent.
), pair AS (
    SELECT {PLACE}, window_key,
        coalesce(live.value, 0) AS live_value, coalesce(live.event_count, 0) AS live_events,
        coalesce(live.latest_ns, 0) AS live_latest_ns, coalesce(live.latest_position, 0) AS live_latest_position,
        coalesce(logged.value, 0) AS built_value, coalesce(logged.event_count, 0) AS built_events,
        coalesce(logged.latest_ns, 0) AS built_latest_ns, coalesce(logged.latest_position, 0) AS built_latest_position,
        coalesce(is_kept, false) AS is_kept, coalesce(is_astray, false) AS is_astray
    FROM live FULL JOIN logged USING ({PLACE})
), noted AS (
    INSERT INTO replay_windows (tenant_id, replay_id, meter_id, customer_id, window_start, dimensions, window_key,
        live_value, live_events, live_latest_ns, live_latest_position,
        built_value, built_events, built_latest_ns, built_latest_position)
    SELECT $1, $2, meter_id, customer_id, to_timestamp(number * 900), dimensions, window_key,
        live_value, live_events, live_latest_ns, live_latest_position,
        built_value, built_events, built_latest_ns, built_latest_position
    FROM pair
    WHERE is_kept OR is_astray OR (live_value, live_events, live_latest_ns, live_latest_position)
        IS DISTINCT FROM (built_value, built_events, built_latest_ns, built_latest_position)
    RETURNING true
)
SELECT (SELECT count(*) FROM pair WHERE built_events > 0) AS windows, (SELECT count(*) FROM noted) AS differing
""",
        *arguments.values,
    )


def _of_customers(scope: ReplayScope, arguments: Arguments) -> str:
    return f"AND customer_id = ANY ({arguments.put(list(scope.customer_ids), 'text[]')})" if scope.customer_ids else ""


def _instant(time_ns: int) -> datetime:
    """Of the start of a window."""
    return min(_EPOCH + time_ns // WINDOW_NS * WINDOW, LAST_INSTANT)
