"""SQL of the job that checks fates: of one tenant, each equation in one snapshot."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from services.ingest.domain.fate_counts import FateCounts
from services.ingest.usecases.audit_fates import Equation

MOST_DIFFERENCES = 100
"""Of an equation in a round: a table that is wrong everywhere must not become two."""

WATERMARK = "SELECT marked_at FROM watermark_floor"
TENANTS = """
SELECT tenant_id FROM sealed_through LEFT JOIN fate_audits USING (tenant_id)
WHERE checked_at IS NULL OR checked_at < $1 ORDER BY tenant_id
"""
OPEN = "SELECT coalesce(sum(open_differences), 0)::bigint FROM fate_audits"
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('ingest:audit:' || $1::text, 0))"
PROGRESS = "SELECT next_hour, last_sealed FROM fate_audits WHERE tenant_id = $1"
# Counts begin with a release: where there were batches before, the hours of the upgrade are counted in part.
FIRST_HOUR = """
SELECT first.hour_start + CASE WHEN EXISTS (
    SELECT FROM batches WHERE tenant_id = $1 AND received_at < first.hour_start) THEN interval '2 hours'
    ELSE interval '0' END
FROM (SELECT min(hour_start) AS hour_start FROM fate_counts WHERE tenant_id = $1) AS first
"""
SAVE_PROGRESS = """
INSERT INTO fate_audits (tenant_id, next_hour, last_sealed, checked_at, open_differences)
SELECT $1, $2, $3, $4, (SELECT count(*) FROM fate_differences WHERE tenant_id = $1 AND resolved_at IS NULL)
ON CONFLICT (tenant_id) DO UPDATE SET next_hour = excluded.next_hour, last_sealed = excluded.last_sealed,
    checked_at = excluded.checked_at, open_differences = excluded.open_differences
"""
# Those first that were not looked at for longest: however many there are, each comes round.
OPEN_HOURS = """
SELECT hour_start, equation = $2 AS of_windows FROM fate_differences
WHERE tenant_id = $1 AND resolved_at IS NULL GROUP BY 1, 2 ORDER BY max(last_seen), 1 LIMIT $3
"""
# Of hours with more events than that the windows are not compared here: the log of one is read at once.
MOST_EVENTS = 1_000_000
NEXT_SEALED = f"""
SELECT min(hour_start) FROM hour_seals WHERE tenant_id = $1 AND hour_start > $2 AND event_count <= {MOST_EVENTS}
"""
# Of the next hours those that have not too many events together, but at least one.
EVENTS_OF_HOURS = """
SELECT hours.hour_start, coalesce(sum(recorded + duplicate + conflict + rejected), 0)::bigint AS events
FROM unnest($2::timestamptz[]) AS hours (hour_start)
LEFT JOIN fate_counts ON tenant_id = $1 AND fate_counts.hour_start = hours.hour_start
GROUP BY hours.hour_start ORDER BY hours.hour_start
"""

_NAMES = tuple(FateCounts.__slots__)
_OF_RECORDER = _NAMES[:-1]


def _text(alias: str) -> str:
    return " || ' ' || ".join(f"coalesce({alias}.{name}, 0)" for name in _NAMES)


# Sides are texts that people read: recorded, duplicate, conflict, rejected, rejected at the door.
RECEIVED = f"""
WITH hours AS (SELECT unnest($2::timestamptz[]) AS hour_start), batch AS (
    SELECT hours.hour_start, batches.batch_id, batches.received_at, event_count, rejected_count AS rejected_at_door,
        {", ".join(_OF_RECORDER)}
    FROM hours
    JOIN batches ON batches.tenant_id = $1 AND batches.received_at >= hours.hour_start
        AND batches.received_at < hours.hour_start + interval '1 hour'
    LEFT JOIN batch_results AS result ON result.tenant_id = $1 AND result.batch_id = batches.batch_id
), results AS (
    SELECT hour_start, {", ".join(f"sum({name})::bigint AS {name}" for name in _NAMES)} FROM batch GROUP BY hour_start
), counts AS (
    SELECT hour_start, {", ".join(f"sum({name})::bigint AS {name}" for name in _NAMES)}
    FROM fate_counts JOIN hours USING (hour_start) WHERE tenant_id = $1 GROUP BY hour_start
), logged AS (
    SELECT hour_start, batch_id, recorded, (
        SELECT count(*) FROM events
        WHERE tenant_id = $1 AND received_at = batch.received_at AND batch_id = batch.batch_id
    ) AS rows FROM batch
)
(SELECT '{Equation.COUNTS}' AS equation, hour_start, 'all sources' AS subject, {_text("counts")} AS left_side,
    {_text("results")} AS right_side
FROM hours LEFT JOIN results USING (hour_start) LEFT JOIN counts USING (hour_start)
WHERE ({_text("counts")}) <> ({_text("results")}) LIMIT {MOST_DIFFERENCES})
UNION ALL
(SELECT '{Equation.BATCH}', hour_start, 'batch ' || batch_id, event_count::text,
    coalesce({" + ".join(_OF_RECORDER)}, 0)::text
FROM batch WHERE event_count <> coalesce({" + ".join(_OF_RECORDER)}, 0) ORDER BY batch_id LIMIT {MOST_DIFFERENCES})
UNION ALL
(SELECT '{Equation.LOG}', hour_start, 'batch ' || batch_id, coalesce(recorded, 0)::text, rows::text
FROM logged WHERE coalesce(recorded, 0) <> rows ORDER BY batch_id LIMIT {MOST_DIFFERENCES})
"""
# Those that are new, or had been resolved, come back with `is_new`.
KEEP = """
WITH known AS (
    SELECT equation, hour_start, subject FROM fate_differences WHERE tenant_id = $1 AND resolved_at IS NULL
)
INSERT INTO fate_differences AS kept (
    tenant_id, equation, hour_start, subject, left_side, right_side, first_seen, last_seen)
SELECT $1, equation, hour_start, subject, left_side, right_side, $7, $7
FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[])
    AS found (equation, hour_start, subject, left_side, right_side)
ON CONFLICT (tenant_id, hour_start, equation, subject) DO UPDATE SET left_side = excluded.left_side,
    right_side = excluded.right_side, last_seen = excluded.last_seen, resolved_at = NULL
RETURNING equation, hour_start, subject, left_side, right_side, first_seen, last_seen, resolved_at,
    NOT EXISTS (SELECT FROM known
        WHERE (known.equation, known.hour_start, known.subject) = (kept.equation, kept.hour_start, kept.subject)
    ) AS is_new
"""
RESOLVE = """
UPDATE fate_differences SET resolved_at = $4
WHERE tenant_id = $1 AND hour_start = ANY ($2) AND (equation = $5) = $6 AND resolved_at IS NULL AND last_seen < $3
"""
LIST = """
SELECT equation, hour_start, subject, left_side, right_side, first_seen, last_seen, resolved_at
FROM fate_differences
WHERE tenant_id = $1 AND ($2 OR resolved_at IS NULL)
    AND ($3::timestamptz IS NULL OR (hour_start, equation, subject) > ($3, $4::text, $5 COLLATE "C"))
ORDER BY hour_start, equation, subject LIMIT $6
"""
CHECKED = "SELECT next_hour, checked_at FROM fate_audits WHERE tenant_id = $1"
