"""SQL of the sealer, all of one tenant and in one snapshot."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

NOTHING_SEALED = "timestamptz '1970-01-01 00:00Z'"

# $1 is the hour through which tenants in real time may be sealed, $2 and $3 are the tenants on test clocks and theirs.
# The queue may be long, so its tenants are found one by one in its index.
TENANTS = f"""
WITH RECURSIVE queued AS (
    (SELECT tenant_id FROM unsealed_batches ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM unsealed_batches WHERE tenant_id > queued.tenant_id ORDER BY tenant_id LIMIT 1)
    FROM queued WHERE queued.tenant_id IS NOT NULL
), known AS (
    SELECT tenant_id, hour_start,
        CASE WHEN clock.tenant IS NULL THEN $1 ELSE clock.hour END AS due_hour
    FROM sealed_through
    LEFT JOIN unnest($2::text[], $3::timestamptz[]) AS clock (tenant, hour) ON clock.tenant = tenant_id
)
SELECT tenant_id FROM queued WHERE tenant_id IS NOT NULL
UNION
SELECT tenant_id FROM known WHERE hour_start < due_hour AND due_hour > {NOTHING_SEALED}
UNION
SELECT tenant_id FROM known WHERE EXISTS (
    SELECT FROM hours_to_seal AS changed
    WHERE changed.tenant_id = known.tenant_id AND changed.hour_start < known.hour_start)
ORDER BY tenant_id
"""
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('ingest:seal:' || $1::text, 0))"
HEAD = "SELECT position, chain_hash FROM log_links WHERE tenant_id = $1 ORDER BY position DESC LIMIT 1"

_BATCH_COLUMNS = """
batch.batch_id, batch.acceptor_epoch, batch.batch_number, batch.received_at, batch.accepted_at, batch.event_count,
    batch.rejected_count, batch.accepted_total, batch.rejected_total, result.recorded, result.duplicate,
    result.conflict, result.rejected, result.duplicate_ordinals, result.oldest_ns, result.digest_version, result.digest
"""
QUEUED_BATCHES = f"""
SELECT {_BATCH_COLUMNS}
FROM (SELECT batch_id FROM unsealed_batches WHERE tenant_id = $1 ORDER BY batch_id LIMIT $2) AS queued
JOIN batches AS batch ON batch.tenant_id = $1 AND batch.batch_id = queued.batch_id
JOIN batch_results AS result ON result.tenant_id = $1 AND result.batch_id = queued.batch_id
ORDER BY batch.batch_id
"""
BATCHES = f"""
SELECT {_BATCH_COLUMNS}
FROM unnest($2::bigint[]) AS wanted (batch_id)
JOIN batches AS batch ON batch.tenant_id = $1 AND batch.batch_id = wanted.batch_id
JOIN batch_results AS result ON result.tenant_id = $1 AND result.batch_id = wanted.batch_id
"""
EXCEPTIONS = """
SELECT batch_id, ordinal, verdict, source, event_id, event_type, customer_id, field, reason, description
FROM unnest($2::timestamptz[], $3::bigint[]) AS wanted (received, batch)
CROSS JOIN LATERAL (
    SELECT batch_id, ordinal, verdict, source, event_id, event_type, customer_id, field, reason, description
    FROM event_exceptions WHERE tenant_id = $1 AND received_at = wanted.received AND batch_id = wanted.batch OFFSET 0
) AS found
ORDER BY batch_id, ordinal
"""
LATE_HOURS = """
INSERT INTO hours_to_seal (tenant_id, hour_start, cause)
SELECT DISTINCT $1, to_timestamp(event_time_ns / 3600000000000 * 3600), 'late'
FROM unnest($2::timestamptz[], $3::bigint[]) AS wanted (received, batch)
CROSS JOIN LATERAL (
    SELECT event_time_ns FROM events WHERE tenant_id = $1 AND received_at = wanted.received
        AND batch_id = wanted.batch AND event_time_ns < $4 OFFSET 0
) AS event
"""
ADD_LINKS = """
INSERT INTO log_links (
    tenant_id, position, kind, batch_id, hour_start, hour_version, entry_hash, chain_hash, linked_at)
SELECT $1, position, kind, batch_id, hour_start, hour_version, entry_hash, chain_hash, $9
FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::timestamptz[], $6::int[], $7::bytea[], $8::bytea[])
    AS link (position, kind, batch_id, hour_start, hour_version, entry_hash, chain_hash)
"""
TAKE_BATCHES = "DELETE FROM unsealed_batches WHERE tenant_id = $1 AND batch_id = ANY ($2::bigint[])"

THROUGH = "SELECT hour_start FROM sealed_through WHERE tenant_id = $1"
BEGIN_THROUGH = f"INSERT INTO sealed_through (tenant_id, hour_start) VALUES ($1, {NOTHING_SEALED}) RETURNING hour_start"
SET_THROUGH = "UPDATE sealed_through SET hour_start = $2 WHERE tenant_id = $1"
WATERMARK = "SELECT marked_at FROM watermark_floor"
FIRST_WINDOW = """
SELECT min(first.window_start) FROM meters CROSS JOIN LATERAL (
    SELECT window_start FROM usage_windows
    WHERE tenant_id = $1 AND meter_id = meters.meter_id AND window_start >= $2 ORDER BY window_start LIMIT 1
) AS first
WHERE meters.tenant_id = $1
"""
CHANGED_HOURS = """
SELECT hour_start, array_agg(entry_id) AS entry_ids, string_agg(DISTINCT cause, ',' ORDER BY cause) AS cause
FROM hours_to_seal WHERE tenant_id = $1 AND hour_start < $2
GROUP BY hour_start ORDER BY hour_start LIMIT $3
"""
TAKE_HOURS = """
DELETE FROM hours_to_seal AS done USING unnest($2::timestamptz[], $3::bigint[]) AS seen (hour_start, entry_id)
WHERE done.tenant_id = $1 AND done.hour_start = seen.hour_start AND done.entry_id = seen.entry_id
"""

# Digests are made where the windows are: an hour may have millions of them. jsonb writes numbers, texts and keys of
# objects in one way only. A window without events is none.
_WINDOW_HASH = """
sha256(convert_to(jsonb_build_array(
    extract(epoch FROM window_start)::bigint, dimensions, trim_scale(value)::text, event_count)::text, 'UTF8'))
"""
_SUM_HASH = """
sha256(convert_to(jsonb_build_array(
    meter_id, customer_id, event_count, window_count, trim_scale(value_sum)::text, encode(digest, 'hex'))::text,
    'UTF8'))
"""
LIVE_SUMS = f"""
SELECT wanted_hour AS hour_start, meters.meter_id, customer_id, sum(event_count)::bigint AS event_count,
    count(*) AS window_count, sum(value) AS value_sum,
    sha256(string_agg({_WINDOW_HASH}, ''::bytea ORDER BY window_key)) AS digest
FROM unnest($2::timestamptz[]) AS wanted_hour
CROSS JOIN meters
CROSS JOIN LATERAL (
    SELECT customer_id, window_start, dimensions, value, event_count, window_key FROM usage_windows
    WHERE tenant_id = $1 AND meter_id = meters.meter_id AND window_start >= wanted_hour
        AND window_start < wanted_hour + interval '1 hour' AND event_count > 0 OFFSET 0
) AS live
WHERE meters.tenant_id = $1
GROUP BY wanted_hour, meters.meter_id, customer_id
"""
"""Rows like those of `hour_seal_sums`, of the hours in $2 as the windows are now."""


def hours_of(sums: str) -> str:
    """A query of a row per hour with what a seal says of it, given a table of its sums."""
    return f"""
SELECT hour_start, sum(event_count)::bigint AS event_count, sum(window_count)::bigint AS window_count,
    sha256(string_agg({_SUM_HASH}, ''::bytea ORDER BY meter_id, customer_id)) AS windows_digest
FROM {sums} GROUP BY hour_start
"""


EMPTY_DIGEST = "sha256(''::bytea)"
# An hour gets a new version only if it is another: its first one if it has windows.
SEAL = f"""
WITH sums AS MATERIALIZED ({LIVE_SUMS}
), live AS (
    SELECT wanted_hour AS hour_start, coalesce(event_count, 0) AS event_count,
        coalesce(window_count, 0) AS window_count, coalesce(windows_digest, {EMPTY_DIGEST}) AS windows_digest
    FROM unnest($2::timestamptz[]) AS wanted_hour
    LEFT JOIN ({hours_of("sums")}) AS found ON found.hour_start = wanted_hour
), changed AS (
    SELECT live.hour_start, coalesce(latest.version, 0) + 1 AS version, live.event_count, live.window_count,
        live.windows_digest
    FROM live LEFT JOIN LATERAL (
        SELECT version, windows_digest FROM hour_seals
        WHERE tenant_id = $1 AND hour_seals.hour_start = live.hour_start ORDER BY version DESC LIMIT 1
    ) AS latest ON true
    WHERE coalesce(latest.windows_digest, {EMPTY_DIGEST}) <> live.windows_digest
), added AS (
    INSERT INTO hour_seal_sums (
        tenant_id, hour_start, version, meter_id, customer_id, event_count, window_count, value_sum, digest)
    SELECT $1, hour_start, version, meter_id, customer_id, sums.event_count, sums.window_count, value_sum, digest
    FROM changed JOIN sums USING (hour_start)
)
SELECT hour_start, version, event_count, window_count, windows_digest FROM changed ORDER BY hour_start
"""
ADD_SEALS = """
INSERT INTO hour_seals (
    tenant_id, hour_start, version, position, cause, event_count, window_count, windows_digest, sealed_at)
SELECT $1, hour_start, version, position, cause, event_count, window_count, windows_digest, $9
FROM unnest(
    $2::timestamptz[], $3::int[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bytea[]
) AS seal (hour_start, version, position, cause, event_count, window_count, windows_digest)
"""
