"""SQL of the recorder. Columns come as arrays, already in the order in which rows are to be locked."""

from __future__ import annotations

import asyncpg

from libs.errors import Violation
from libs.outbox import marking
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store import tables
from services.ingest.store.waiting_voids import SHARE_LOCKS

# The condition always holds: it takes locks, before anything else of a chunk and without a statement of its own.
ADD_BATCHES = f"""
INSERT INTO batches (
    tenant_id, acceptor_epoch, batch_number, received_at, accepted_at, event_count, rejected_count, trace_parent,
    accepted_total, rejected_total)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::int[], $8::text[],
    $9::bigint[], $10::bigint[])
WHERE {SHARE_LOCKS} > 0
ON CONFLICT DO NOTHING
RETURNING tenant_id, acceptor_epoch, batch_number, batch_id
"""  # noqa: S608 - put together from constants
SEPARATOR = "\x1f"
"""Between the texts of a column. No id and no JSON contains it; if one did, the columns would differ in length and a
NOT NULL constraint would refuse the rows."""

# Columns of events come as one text each, because asyncpg examines every element of an array for nested ones, which
# takes longer than all of our own work. What is the same for a whole batch comes once: `slot` is its index.
#
# As a rule all keys are new, and then no row has to come back.
ADD_KEYS = """
WITH added AS (
    INSERT INTO event_keys (tenant_id, source, event_id, payload_hash, received_at, batch_id, ordinal)
    SELECT ($1::text[])[slot], source, event_id, substring($8::bytea FROM (16 * position - 15)::int FOR 16),
        ($2::timestamptz[])[slot], ($3::bigint[])[slot], ordinal
    FROM unnest(
        string_to_array($4, E'\x1f')::int[], string_to_array($5, E'\x1f')::int[],
        string_to_array($6, E'\x1f'), string_to_array($7, E'\x1f')
    ) WITH ORDINALITY AS key (slot, ordinal, source, event_id, position)
    ON CONFLICT DO NOTHING
    RETURNING batch_id, ordinal
)
SELECT count(*) = $9 AS all_new,
    CASE WHEN count(*) < $9 THEN array_agg(batch_id) END AS batch_ids,
    CASE WHEN count(*) < $9 THEN array_agg(ordinal) END AS ordinals
FROM added
"""
STORED_HASHES = """
SELECT wanted.position, payload_hash
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (tenant_id, source, event_id, position)
JOIN event_keys USING (tenant_id, source, event_id)
"""
ADD_EVENTS = """
INSERT INTO events (
    tenant_id, received_at, batch_id, ordinal, source, event_id, event_type, customer_id, event_time_ns,
    properties, measured)
SELECT ($1::text[])[slot], ($2::timestamptz[])[slot], ($3::bigint[])[slot], ordinal, source, event_id, event_type,
    customer_id, event_time_ns, properties::jsonb, measured::jsonb
FROM unnest(
    string_to_array($4, E'\x1f')::int[], string_to_array($5, E'\x1f')::int[], string_to_array($6, E'\x1f')::bigint[],
    string_to_array($7, E'\x1f'), string_to_array($8, E'\x1f'), string_to_array($9, E'\x1f'),
    string_to_array($10, E'\x1f'), string_to_array($11, E'\x1f'), string_to_array($12, E'\x1f')
) AS event (slot, ordinal, event_time_ns, source, event_id, event_type, customer_id, properties, measured)
"""
ADD_RESULTS = """
INSERT INTO batch_results (
    tenant_id, batch_id, recorded, duplicate, conflict, rejected, duplicate_ordinals, digest, digest_version, oldest_ns)
SELECT tenant_id, batch_id, recorded, duplicate, conflict, rejected, duplicate_ordinals::int[], digest, $9, oldest_ns
FROM unnest(
    $1::text[], $2::bigint[], $3::int[], $4::int[], $5::int[], $6::int[], $7::text[], $8::bytea[], $10::bigint[]
) AS result (tenant_id, batch_id, recorded, duplicate, conflict, rejected, duplicate_ordinals, digest, oldest_ns)
"""
ADD_EXCEPTIONS = """
INSERT INTO event_exceptions (
    tenant_id, received_at, batch_id, ordinal, verdict, source, event_id, event_type, customer_id, field, reason,
    description)
SELECT * FROM unnest(
    $1::text[], $2::timestamptz[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::text[])
"""
ADD_DUPLICATES = """
INSERT INTO event_duplicates AS kept (tenant_id, source, event_id, times)
SELECT tenant_id, source, event_id, count(*)
FROM unnest($1::text[], $2::text[], $3::text[]) AS sent (tenant_id, source, event_id)
GROUP BY tenant_id, source, event_id ORDER BY tenant_id, source, event_id
ON CONFLICT (tenant_id, source, event_id) DO UPDATE SET times = kept.times + excluded.times
"""
ADD_CUSTOMERS = """
INSERT INTO event_customers AS kept (tenant_id, customer_id, event_count)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (tenant_id, customer_id) DO UPDATE SET event_count = kept.event_count + excluded.event_count
"""
ADD_COUNTERS = """
INSERT INTO acceptor_counters AS kept (
    tenant_id, acceptor_epoch, accepted_total, rejected_total, recorded, duplicate, conflict, rejected)
SELECT tenant_id, acceptor_epoch, max(accepted_total), max(rejected_total),
    sum(recorded), sum(duplicate), sum(conflict), sum(rejected)
FROM unnest(
    $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
) AS batch (tenant_id, acceptor_epoch, accepted_total, rejected_total, recorded, duplicate, conflict, rejected)
GROUP BY tenant_id, acceptor_epoch ORDER BY tenant_id, acceptor_epoch
ON CONFLICT (tenant_id, acceptor_epoch) DO UPDATE SET
    accepted_total = greatest(kept.accepted_total, excluded.accepted_total),
    rejected_total = greatest(kept.rejected_total, excluded.rejected_total),
    recorded = kept.recorded + excluded.recorded,
    duplicate = kept.duplicate + excluded.duplicate,
    conflict = kept.conflict + excluded.conflict,
    rejected = kept.rejected + excluded.rejected
"""
# The version of an update is taken in the SET clause, that is under the lock of its row. Traces may be empty, and the
# array of one empty text has no elements: they come as an array. `{columns}` and the like are what windows of the
# latest value have beside the others.
_CHANGE_WINDOWS = """
WITH changed AS (
    INSERT INTO usage_windows AS kept (
        tenant_id, window_key, meter_id, customer_id, window_start, dimensions, value, event_count, trace_parent,
        version{columns})
    SELECT tenant_id, decode(window_key, 'hex'), meter_id, customer_id, to_timestamp(start_s), dimensions::jsonb, value,
        event_count, trace_parent, nextval('state_version'){columns}
    FROM unnest(
        string_to_array($1, E'\x1f'), string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f'),
        string_to_array($4, E'\x1f'), string_to_array($5, E'\x1f')::bigint[], string_to_array($6, E'\x1f'),
        string_to_array($7, E'\x1f')::numeric[], string_to_array($8, E'\x1f')::bigint[], $9::text[]{arrays}
    ) AS change (
        tenant_id, window_key, meter_id, customer_id, start_s, dimensions, value, event_count, trace_parent{columns})
    ON CONFLICT (tenant_id, window_key) DO UPDATE SET
        value = {merged},
        event_count = kept.event_count + excluded.event_count,
        trace_parent = CASE WHEN excluded.trace_parent = '' THEN kept.trace_parent ELSE excluded.trace_parent END,
        version = nextval('state_version'){more}
    RETURNING tenant_id, encode(window_key, 'hex') AS item_key, version
)
"""
# A window whose events were all voided holds the value zero, which is none.
_WAS_EMPTY = "kept.event_count = 0"
_IS_LATER = f"({_WAS_EMPTY} OR (excluded.latest_ns, excluded.latest_position) > (kept.latest_ns, kept.latest_position))"


def _add_windows(merged: str, *, with_moments: bool = False) -> str:
    moments = ("latest_ns", "latest_position")
    change = _CHANGE_WINDOWS.format(
        merged=merged,
        columns=", latest_ns, latest_position" if with_moments else "",
        arrays=", $11::bigint[], $12::bigint[]" if with_moments else "",
        more="".join(
            f",\n        {name} = CASE WHEN {_IS_LATER} THEN excluded.{name} ELSE kept.{name} END" for name in moments
        )
        if with_moments
        else "",
    )
    return change + marking(tables.window_marks, "changed", "$10::timestamptz")


def _extreme(function: str) -> str:
    return f"CASE WHEN {_WAS_EMPTY} THEN excluded.value ELSE {function}(kept.value, excluded.value) END"


_SUMS = _add_windows("kept.value + excluded.value")
ADD_WINDOWS: dict[Aggregation, str] = {
    Aggregation.COUNT: _SUMS,
    Aggregation.SUM: _SUMS,
    Aggregation.AVG: _SUMS,
    Aggregation.MIN: _add_windows(_extreme("least")),
    Aggregation.MAX: _add_windows(_extreme("greatest")),
    Aggregation.LATEST: _add_windows(
        f"CASE WHEN {_IS_LATER} THEN excluded.value ELSE kept.value END", with_moments=True
    ),
}
"""By how windows are merged. A transaction runs them in this order, each window has one: so the locks are ordered."""
_WANTED_BATCHES = """
FROM unnest($1::text[], $2::text[], $3::bigint[])
    WITH ORDINALITY AS wanted (tenant_id, acceptor_epoch, batch_number, position)
JOIN batches USING (tenant_id, acceptor_epoch, batch_number)
"""
STORED_DUPLICATES = f"""
SELECT wanted.position, unnest(duplicate_ordinals) AS ordinal
{_WANTED_BATCHES} JOIN batch_results USING (tenant_id, batch_id)
"""
STORED_EXCEPTIONS = f"""
SELECT wanted.position, ordinal, verdict, field, reason, description
{_WANTED_BATCHES} JOIN event_exceptions USING (tenant_id, received_at, batch_id)
WHERE ordinal >= 0
"""
ADD_POSITIONS = """
INSERT INTO stream_positions (stream_epoch, stream_seq, tenant_id, acceptor_epoch, batch_number)
SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
ORDER BY 1, 2 -- Redelivered markers come in any order, and two recorders may have the same ones.
ON CONFLICT DO NOTHING
"""
ADD_MARKERS = """
INSERT INTO markers (stream_epoch, stream_seq, marker_id, marked_at)
SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::timestamptz[])
ON CONFLICT DO NOTHING
"""
ADD_ABANDONED = """
INSERT INTO abandoned_batches (tenant_id, acceptor_epoch, batch_number)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT DO NOTHING
"""


def problem_of(row: asyncpg.Record) -> Violation:
    """The problem of a row of `event_exceptions`."""
    return Violation(row["field"], row["reason"], row["description"])
