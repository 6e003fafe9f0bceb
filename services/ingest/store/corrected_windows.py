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
from services.ingest.store.measured_events import DIMENSIONS, POSITION
from services.ingest.store.measured_log import MEASURED_IN_ALL, MEASURED_LOG
from services.ingest.store.recording_sql import ADD_WINDOWS
from services.ingest.store.resealing import reseal

_WINDOW_NS = 900_000_000_000
_GROUPED = f"CASE WHEN cardinality(group_by) = 0 THEN jsonb_build_object() ELSE {DIMENSIONS.format('group_by')} END"
# The windows of corrected events exist, those of newly recorded ones may not. All are locked, or made, in the order in
# which recorders take them: by how they are merged, then by key. OFFSET 0 has each part looked up by its index,
# whatever the statistics say of a log that has just grown.
_LOCK = f"""
WITH measured AS MATERIALIZED (
    SELECT DISTINCT customer_id, to_timestamp(event_time_ns / {_WINDOW_NS} * 900) AS window_start,
        measured_meter AS meter_id, {_GROUPED} AS dimensions
    FROM unnest($4::text[], $5::text[]) AS corrected (source, event_id)
    CROSS JOIN LATERAL (
        SELECT received_at, batch_id, ordinal FROM event_keys
        WHERE tenant_id = $1 AND source = corrected.source AND event_id = corrected.event_id OFFSET 0
    ) AS stored
    CROSS JOIN LATERAL (
        SELECT customer_id, event_time_ns, properties, {MEASURED_IN_ALL} AS measured FROM events AS event
        WHERE tenant_id = $1 AND received_at = stored.received_at AND batch_id = stored.batch_id
            AND ordinal = stored.ordinal OFFSET 0
    ) AS event
    CROSS JOIN LATERAL jsonb_object_keys(event.measured) AS measured_meter
    JOIN meters ON meters.tenant_id = $1 AND meters.meter_id = measured_meter
), place AS (
    SELECT found.window_key, meter_id, customer_id, window_start, dimensions
    FROM measured CROSS JOIN LATERAL (
        SELECT window_key FROM usage_windows AS kept
        WHERE kept.tenant_id = $1 AND kept.customer_id = measured.customer_id
            AND kept.window_start = measured.window_start AND kept.meter_id = measured.meter_id
            AND kept.dimensions = measured.dimensions OFFSET 0
    ) AS found
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
# read once, however many windows it has. Windows and readings meet in a GROUP BY, because a join of the two would be
# planned by guesses.
_RECOMPUTE = f"""
WITH wanted AS (
    SELECT window_key, meter_id, customer_id, dimensions,
        (extract(epoch FROM window_start) / 900)::bigint AS number
    FROM usage_windows WHERE tenant_id = $1 AND window_key = ANY ($2::bytea[])
), reading AS (
    SELECT measured.key AS meter_id, slot.customer_id, number, {_GROUPED} AS dimensions,
        CASE WHEN merged = 'count' THEN 1 ELSE measured.value::numeric END AS value,
        event_time_ns, position
    FROM (SELECT DISTINCT customer_id, number FROM wanted) AS slot
    CROSS JOIN LATERAL (
        SELECT event_time_ns, properties, logged.measured, {POSITION} AS position FROM {MEASURED_LOG} AS logged
        WHERE tenant_id = $1 AND customer_id = slot.customer_id AND event_time_ns >= number * {_WINDOW_NS}
            AND event_time_ns < (number + 1) * {_WINDOW_NS} OFFSET 0
    ) AS event
    CROSS JOIN LATERAL jsonb_each_text(event.measured) AS measured
    JOIN unnest($3::text[], $4::text[]) AS rule (rule_meter, merged) ON rule_meter = measured.key
    JOIN meters ON meters.tenant_id = $1 AND meters.meter_id = measured.key
), state AS (
    SELECT (array_agg(window_key) FILTER (WHERE window_key IS NOT NULL))[1] AS window_key, meter_id,
        count(value) AS event_count, min(value) AS least, max(value) AS greatest, sum(value) AS total,
        (array_agg(value ORDER BY event_time_ns DESC, position DESC) FILTER (WHERE value IS NOT NULL))[1] AS latest,
        max(event_time_ns) AS latest_ns,
        (array_agg(position ORDER BY event_time_ns DESC, position DESC) FILTER (WHERE value IS NOT NULL))[1]
            AS latest_position
    FROM (
        SELECT window_key, meter_id, customer_id, number, dimensions, NULL::numeric AS value,
            NULL::bigint AS event_time_ns, NULL::bigint AS position
        FROM wanted
        UNION ALL
        SELECT NULL, meter_id, customer_id, number, dimensions, value, event_time_ns, position FROM reading
    ) AS part
    GROUP BY meter_id, customer_id, number, dimensions HAVING count(window_key) > 0
), changed AS (
    UPDATE usage_windows AS kept SET
        value = coalesce(CASE merged WHEN 'min' THEN least WHEN 'max' THEN greatest WHEN 'latest' THEN latest
            ELSE total END, 0),
        event_count = state.event_count,
        latest_ns = CASE WHEN merged = 'latest' THEN coalesce(state.latest_ns, 0) ELSE 0 END,
        latest_position = CASE WHEN merged = 'latest' THEN coalesce(state.latest_position, 0) ELSE 0 END,
        version = nextval('state_version')
    FROM state JOIN unnest($3::text[], $4::text[]) AS rule (rule_meter, merged) ON rule_meter = meter_id
    WHERE kept.tenant_id = $1 AND kept.window_key = state.window_key
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
        await reseal(driver, tenant_id, keys, "correction")
