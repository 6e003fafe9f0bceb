"""SQL of questions about the sealed log."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from services.ingest.store import sealing_sql as sealing
from services.ingest.store.log_entries import SEAL_COLUMNS

HEAD = """
SELECT link.position, link.chain_hash, link.linked_at,
    (SELECT hour_start FROM sealed_through WHERE tenant_id = $1) AS sealed_through,
    (SELECT count(*) FROM unsealed_batches WHERE tenant_id = $1) AS queued
FROM (SELECT 1) AS always LEFT JOIN LATERAL (
    SELECT position, chain_hash, linked_at FROM log_links WHERE tenant_id = $1 ORDER BY position DESC LIMIT 1
) AS link ON true
"""
CHAIN_HASH = "SELECT chain_hash FROM log_links WHERE tenant_id = $1 AND position = $2"
_LINK_COLUMNS = "position, kind, batch_id, hour_start, hour_version, entry_hash, chain_hash, linked_at"
LINKS = f"""
SELECT {_LINK_COLUMNS} FROM log_links WHERE tenant_id = $1 AND position > $2 AND position <= $3
ORDER BY position LIMIT $4
"""
LINKS_AT = f"SELECT {_LINK_COLUMNS} FROM log_links WHERE tenant_id = $1 AND position = ANY ($2::bigint[])"
SEALS_OF_LINKS = f"""
SELECT {SEAL_COLUMNS}, coalesce((
    SELECT windows_digest FROM ({
    sealing.hours_of(
        '''(SELECT hour_start, meter_id, customer_id, event_count, window_count, value_sum, digest FROM hour_seal_sums
        WHERE tenant_id = $1 AND hour_seal_sums.hour_start = hour_seals.hour_start
            AND hour_seal_sums.version = hour_seals.version) AS sums'''
    )
}) AS summed), {sealing.EMPTY_DIGEST}) AS sums_digest
FROM hour_seals JOIN unnest($2::timestamptz[], $3::int[]) AS wanted (hour_start, version) USING (hour_start, version)
WHERE tenant_id = $1
"""
EVENTS = """
SELECT event.batch_id, event.ordinal, event.source, event.event_id, event.event_type, event.customer_id,
    event.event_time_ns, event.properties, event.measured
FROM unnest($2::timestamptz[], $3::bigint[]) AS wanted (received, batch)
CROSS JOIN LATERAL (
    SELECT batch_id, ordinal, source, event_id, event_type, customer_id, event_time_ns, properties, measured
    FROM events WHERE tenant_id = $1 AND received_at = wanted.received AND batch_id = wanted.batch
    ORDER BY ordinal LIMIT $4 OFFSET 0
) AS event
ORDER BY event.batch_id, event.ordinal
"""
# The next hour that has a seal or a window.
NEXT_HOUR = f"""
SELECT least(
    (SELECT min(hour_start) FROM hour_seals WHERE tenant_id = $1 AND hour_start >= $2),
    ({sealing.FIRST_WINDOW}))
"""
# What changes an hour is either seen by the sealer already (hours_to_seal), or will be when it links the batch.
_UNSETTLED = """
EXISTS (SELECT FROM hours_to_seal WHERE tenant_id = $1 AND hours_to_seal.hour_start = wanted_hour) OR EXISTS (
    SELECT FROM unsealed_batches AS queued
    JOIN batch_results AS result ON result.tenant_id = $1 AND result.batch_id = queued.batch_id
    JOIN batches AS batch ON batch.tenant_id = $1 AND batch.batch_id = queued.batch_id
    CROSS JOIN LATERAL (
        SELECT FROM events WHERE events.tenant_id = $1 AND events.received_at = batch.received_at
            AND events.batch_id = batch.batch_id
            AND events.event_time_ns >= extract(epoch FROM wanted_hour)::bigint * 1000000000
            AND events.event_time_ns < (extract(epoch FROM wanted_hour)::bigint + 3600) * 1000000000
        LIMIT 1
    ) AS event
    WHERE queued.tenant_id = $1)
"""
_LATEST = """
SELECT version, windows_digest FROM hour_seals
WHERE tenant_id = $1 AND hour_seals.hour_start = wanted_hour ORDER BY version DESC LIMIT 1
"""
HOURS = f"""
WITH live AS MATERIALIZED ({sealing.hours_of(f"({sealing.LIVE_SUMS}) AS sums")})
SELECT wanted_hour AS hour_start, coalesce(latest.version, 0) AS version, differs,
    CASE WHEN differs THEN {_UNSETTLED} ELSE false END AS unsettled
FROM unnest($2::timestamptz[]) AS wanted_hour
LEFT JOIN live ON live.hour_start = wanted_hour
LEFT JOIN LATERAL ({_LATEST}) AS latest ON true
CROSS JOIN LATERAL (
    SELECT coalesce(live.windows_digest, {sealing.EMPTY_DIGEST})
        <> coalesce(latest.windows_digest, {sealing.EMPTY_DIGEST}) AS differs
) AS compared
ORDER BY wanted_hour
"""
DIFFERS_AT = f"""
SELECT meter_id, customer_id FROM (
    SELECT meter_id, customer_id, event_count, window_count, trim_scale(value_sum) AS value_sum, digest
    FROM ({sealing.LIVE_SUMS}) AS live
) AS live
FULL JOIN (
    SELECT meter_id, customer_id, event_count, window_count, value_sum, digest FROM hour_seal_sums
    WHERE tenant_id = $1 AND hour_start = ($2::timestamptz[])[1] AND version = $3
) AS sealed USING (meter_id, customer_id)
WHERE live.digest IS DISTINCT FROM sealed.digest
ORDER BY meter_id, customer_id LIMIT 1
"""
TOTALS = """
SELECT (SELECT count(*) FROM batches WHERE tenant_id = $1) AS batches,
    (SELECT count(*) FROM batch_results WHERE tenant_id = $1) AS results,
    (SELECT count(*) FROM log_links WHERE tenant_id = $1 AND kind = 'batch') AS linked,
    (SELECT count(*) FROM unsealed_batches WHERE tenant_id = $1) AS queued,
    (SELECT count(*) FROM events WHERE tenant_id = $1) AS events,
    (SELECT coalesce(sum(recorded), 0)::bigint FROM batch_results WHERE tenant_id = $1) AS recorded
"""
_SEAL = f"""
SELECT {", ".join(f"seal.{name}" for name in SEAL_COLUMNS.split(", "))}, link.chain_hash
FROM hour_seals AS seal JOIN log_links AS link USING (tenant_id, position)
WHERE seal.tenant_id = $1
"""
SEALS = f"""
{_SEAL} AND ($2::timestamptz IS NULL OR (seal.hour_start, seal.version) < ($2, $3::int))
    AND (NOT $4::boolean OR NOT EXISTS (
        SELECT FROM hour_seals AS later WHERE later.tenant_id = $1 AND later.hour_start = seal.hour_start
            AND later.version > seal.version))
ORDER BY seal.hour_start DESC, seal.version DESC LIMIT $5
"""
SEAL = f"""
{_SEAL} AND seal.hour_start = $2 AND ($3::int = 0 OR seal.version = $3) ORDER BY seal.version DESC LIMIT 1
"""
SUMS = """
SELECT meter_id, customer_id, event_count, window_count, value_sum, digest FROM hour_seal_sums
WHERE tenant_id = $1 AND hour_start = $2 AND version = $3
    AND ($4::text IS NULL OR (meter_id, customer_id) > ($4, $5::text))
ORDER BY meter_id, customer_id LIMIT $6
"""
PLACES = """
SELECT wanted.place, stored.batch_id, stored.received_at, stored.ordinal, result.recorded, link.position
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (source, event_id, place)
CROSS JOIN LATERAL (
    SELECT batch_id, received_at, ordinal FROM event_keys
    WHERE tenant_id = $1 AND source = wanted.source AND event_id = wanted.event_id OFFSET 0
) AS stored
JOIN batch_results AS result ON result.tenant_id = $1 AND result.batch_id = stored.batch_id
LEFT JOIN log_links AS link ON link.tenant_id = $1 AND link.batch_id = stored.batch_id
"""
