"""Windows made anew from the log, under their locks."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import asyncpg

from libs.outbox import marking
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_windows import WindowChange
from services.ingest.store import tables
from services.ingest.store.effective_events import EFFECTIVE
from services.ingest.store.measured_events import DIMENSIONS, POSITION
from services.ingest.store.recording_sql import ADD_WINDOWS

_WINDOW_NS = 900_000_000_000
_GROUPED = f"CASE WHEN cardinality(group_by) = 0 THEN jsonb_build_object() ELSE {DIMENSIONS.format('group_by')} END"
# The windows of corrected events exist, those of newly recorded ones may not. All are locked, or made, in the order in
# which recorders take them: by how they are merged, then by key.
_LOCK = f"""
WITH place AS (
    SELECT kept.window_key, kept.meter_id, kept.customer_id, kept.window_start, kept.dimensions
    FROM unnest($4::text[], $5::text[]) AS corrected (source, event_id)
    JOIN event_keys AS stored ON stored.tenant_id = $1
        AND stored.source = corrected.source AND stored.event_id = corrected.event_id
    JOIN events ON (events.tenant_id, events.received_at, events.batch_id, events.ordinal)
        = (stored.tenant_id, stored.received_at, stored.batch_id, stored.ordinal)
    CROSS JOIN LATERAL jsonb_object_keys(events.measured) AS measured_meter
    JOIN meters ON meters.tenant_id = $1 AND meters.meter_id = measured_meter
    JOIN usage_windows AS kept ON kept.tenant_id = $1 AND kept.customer_id = events.customer_id
        AND kept.window_start = to_timestamp(event_time_ns / {_WINDOW_NS} * 900)
        AND kept.meter_id = measured_meter AND kept.dimensions = {_GROUPED}
    UNION
    SELECT window_key, meter_id, customer_id, window_start, dimensions::jsonb
    FROM unnest($6::bytea[], $7::text[], $8::text[], $9::timestamptz[], $10::text[])
        AS added (window_key, meter_id, customer_id, window_start, dimensions)
)
INSERT INTO usage_windows AS kept (
    tenant_id, window_key, meter_id, customer_id, window_start, dimensions, value, event_count, version, trace_parent)
SELECT $1, window_key, meter_id, customer_id, window_start, dimensions, 0, 0, nextval('state_version'), ''
FROM place JOIN unnest($2::text[], $3::int[]) AS rule (rule_meter, rank) ON rule_meter = meter_id
ORDER BY rank, window_key
ON CONFLICT (tenant_id, window_key) DO UPDATE SET version = kept.version
RETURNING window_key
"""
# A statement of its own: its snapshot sees whatever the locks were waiting for. Each customer's quarter of an hour is
# read once, however many windows it has.
_RECOMPUTE = f"""
WITH wanted AS (
    SELECT window_key, meter_id, customer_id, dimensions,
        (extract(epoch FROM window_start) / 900)::bigint AS number
    FROM usage_windows WHERE tenant_id = $1 AND window_key = ANY ($2::bytea[])
), reading AS (
    SELECT measured.key AS meter_id, events.customer_id, number, {_GROUPED} AS dimensions, merged,
        CASE WHEN merged = 'count' THEN 1 ELSE measured.value::numeric END AS value,
        event_time_ns, {POSITION} AS position
    FROM (SELECT DISTINCT customer_id, number FROM wanted) AS slot
    JOIN events ON events.tenant_id = $1 AND events.customer_id = slot.customer_id
        AND event_time_ns >= number * {_WINDOW_NS} AND event_time_ns < (number + 1) * {_WINDOW_NS}
    CROSS JOIN LATERAL jsonb_each_text(measured) AS measured
    JOIN unnest($3::text[], $4::text[]) AS rule (rule_meter, merged) ON rule_meter = measured.key
    JOIN meters ON meters.tenant_id = $1 AND meters.meter_id = measured.key
    WHERE {EFFECTIVE}
), state AS (
    SELECT window_key, count(*) AS event_count, CASE merged
        WHEN 'min' THEN min(value) WHEN 'max' THEN max(value)
        WHEN 'latest' THEN (array_agg(value ORDER BY event_time_ns DESC, position DESC)
            FILTER (WHERE merged = 'latest'))[1]
        ELSE sum(value) END AS value,
        CASE WHEN merged = 'latest' THEN max(event_time_ns) END AS latest_ns,
        (array_agg(position ORDER BY event_time_ns DESC, position DESC) FILTER (WHERE merged = 'latest'))[1]
            AS latest_position
    FROM wanted JOIN reading USING (meter_id, customer_id, number, dimensions)
    GROUP BY window_key, merged
), changed AS (
    UPDATE usage_windows AS kept SET
        value = coalesce(state.value, 0),
        event_count = coalesce(state.event_count, 0),
        latest_ns = coalesce(state.latest_ns, 0),
        latest_position = coalesce(state.latest_position, 0),
        version = nextval('state_version')
    FROM wanted LEFT JOIN state USING (window_key)
    WHERE kept.tenant_id = $1 AND kept.window_key = wanted.window_key
    RETURNING kept.tenant_id, encode(kept.window_key, 'hex') AS item_key, kept.version
)
{marking(tables.window_marks, "changed", "$5::timestamptz")}
"""
_RANKS = {statement: rank for rank, statement in enumerate(dict.fromkeys(ADD_WINDOWS.values()))}


async def recompute_windows(
    driver: asyncpg.Connection,
    tenant_id: str,
    meters: Sequence[Meter],
    corrected: Collection[EventKey],
    added: Sequence[WindowChange],
    now: datetime,
) -> None:
    """Make the windows of corrected and of newly recorded events what effective events come to, and mark them.

    Versions are taken under the locks, and nothing is subtracted: what comes out is what sending only the effective
    events would have given. Windows without any stay, as zero.
    """
    ids, merged = [meter.meter_id for meter in meters], [meter.window_aggregation for meter in meters]
    locked = await driver.fetch(
        _LOCK,
        tenant_id,
        ids,
        [_RANKS[ADD_WINDOWS[aggregation]] for aggregation in merged],
        [source for source, _ in corrected],
        [event_id for _, event_id in corrected],
        [change.key for change in added],
        [change.meter_id for change in added],
        [change.customer_id for change in added],
        [change.start for change in added],
        [change.dimensions for change in added],
    )
    if locked:
        keys = [row["window_key"] for row in locked]
        await driver.execute(_RECOMPUTE, tenant_id, keys, ids, merged, now)
