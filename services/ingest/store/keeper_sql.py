"""SQL of the keeper. All of it is about queue tables, which a worker reads across tenants."""

from __future__ import annotations

LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('ingest:keeper', 0))"
FLOOR = "SELECT stream_epoch, stream_seq, marked_at FROM watermark_floor"
SET_FLOOR = """
INSERT INTO watermark_floor AS kept (stream_epoch, stream_seq, marked_at) VALUES ($1, $2, $3)
ON CONFLICT (only_row) DO UPDATE SET
    stream_epoch = excluded.stream_epoch,
    stream_seq = excluded.stream_seq,
    marked_at = greatest(kept.marked_at, excluded.marked_at)
"""
# What a gap in the numbers of an acceptor says: a batch between two that were recorded is not there. Positions of an
# earlier incarnation of the stream count, too: its end was not looked at before it was gone.
_SEEN = """
seen AS (
    SELECT DISTINCT tenant_id, acceptor_epoch, batch_number FROM stream_positions
    WHERE acceptor_epoch <> '' AND (stream_epoch <> $1 OR (stream_seq > $2 AND stream_seq <= $3))
)
"""
NUMBERS_AT_ONCE = 10_000
NOTICE_GAPS = f"""
WITH {_SEEN},
ranges AS (
    SELECT tenant_id, acceptor_epoch, coalesce(max(checked_through), 0) AS low, max(batch_number) AS high
    FROM seen LEFT JOIN batch_floors USING (tenant_id, acceptor_epoch)
    GROUP BY tenant_id, acceptor_epoch
)
INSERT INTO missing_batches (tenant_id, acceptor_epoch, batch_number, noticed_at)
SELECT tenant_id, acceptor_epoch, number, $4
FROM ranges, generate_series(low + 1, high) AS number
WHERE NOT EXISTS (
    SELECT FROM seen WHERE (seen.tenant_id, seen.acceptor_epoch, seen.batch_number)
        = (ranges.tenant_id, ranges.acceptor_epoch, number)
) AND NOT EXISTS (
    SELECT FROM abandoned_batches AS abandoned
    WHERE (abandoned.tenant_id, abandoned.acceptor_epoch, abandoned.batch_number)
        = (ranges.tenant_id, ranges.acceptor_epoch, number)
) AND NOT EXISTS (
    SELECT FROM missing_batches AS known
    WHERE (known.tenant_id, known.acceptor_epoch, known.batch_number)
        = (ranges.tenant_id, ranges.acceptor_epoch, number)
)
LIMIT {NUMBERS_AT_ONCE}
ON CONFLICT DO NOTHING
"""  # noqa: S608 - put together from constants
# Also one that a person has written off: what is there explains no lost message.
RESOLVE_GAPS = f"""
WITH {_SEEN}
UPDATE missing_batches AS missing SET resolved_at = $4, written_off = false
WHERE (resolved_at IS NULL OR written_off) AND (
    EXISTS (
        SELECT FROM seen WHERE (seen.tenant_id, seen.acceptor_epoch, seen.batch_number)
            = (missing.tenant_id, missing.acceptor_epoch, missing.batch_number))
    OR EXISTS (
        SELECT FROM abandoned_batches AS abandoned
        WHERE (abandoned.tenant_id, abandoned.acceptor_epoch, abandoned.batch_number)
            = (missing.tenant_id, missing.acceptor_epoch, missing.batch_number))
)
"""  # noqa: S608 - put together from constants
RAISE_BATCH_FLOORS = f"""
WITH {_SEEN}
INSERT INTO batch_floors AS kept (tenant_id, acceptor_epoch, checked_through)
SELECT tenant_id, acceptor_epoch, max(batch_number) FROM seen GROUP BY tenant_id, acceptor_epoch
ON CONFLICT (tenant_id, acceptor_epoch) DO UPDATE
    SET checked_through = greatest(kept.checked_through, excluded.checked_through)
"""  # noqa: S608 - put together from constants
# The whole queue is gone, or its end: which numbers acceptors had used by then nobody can tell.
NOTE_LOSS = """
INSERT INTO queue_losses (stream_epoch, stream_seq, noticed_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
IS_LOST = "SELECT EXISTS (SELECT FROM queue_losses WHERE resolved_at IS NULL)"
NEWEST_MARKER = """
SELECT stream_seq, marked_at FROM markers
WHERE stream_epoch = $1 AND stream_seq > $2 AND stream_seq <= $3 ORDER BY stream_seq DESC LIMIT 1
"""
LATEST_MARKED_AT = "SELECT max(marked_at) FROM markers WHERE stream_epoch = $1"
ACCOUNTED = "SELECT count(*) FROM stream_positions WHERE stream_epoch = $1 AND stream_seq > $2 AND stream_seq <= $3"
# Everything up to `complete_through` is accounted for; behind it something is not.
COMPLETE_THROUGH = """
SELECT before AS complete_through FROM (
    SELECT stream_seq, lag(stream_seq, 1, $2) OVER (ORDER BY stream_seq) AS before
    FROM stream_positions WHERE stream_epoch = $1 AND stream_seq > $2
) AS step
WHERE stream_seq > before + 1 ORDER BY stream_seq LIMIT 1
"""
# A lost message and a missing number are taken for the same thing, each number once; also a number that somebody has
# written off before the next marker came, else no number would ever explain its message.
EXPLAIN = """
WITH unused AS (
    SELECT tenant_id, acceptor_epoch, batch_number FROM missing_batches
    WHERE (resolved_at IS NULL OR written_off) AND NOT explains_position
    ORDER BY tenant_id, acceptor_epoch, batch_number LIMIT $1 FOR UPDATE
), enough AS (SELECT count(*) = $1 AS is_enough FROM unused)
UPDATE missing_batches AS missing SET explains_position = true FROM unused, enough
WHERE is_enough AND (missing.tenant_id, missing.acceptor_epoch, missing.batch_number)
    = (unused.tenant_id, unused.acceptor_epoch, unused.batch_number)
RETURNING missing.batch_number
"""
# A number whose successor lies before the watermark is missing from there: it explains nothing that is lost later.
CLOSE_NUMBERS = """
UPDATE missing_batches AS missing SET explains_position = true
WHERE (resolved_at IS NULL OR written_off) AND NOT explains_position AND EXISTS (
    SELECT FROM stream_positions AS later
    WHERE (later.tenant_id, later.acceptor_epoch) = (missing.tenant_id, missing.acceptor_epoch)
        AND later.batch_number > missing.batch_number AND (stream_epoch <> $1 OR stream_seq <= $2)
)
"""
# A few of each tenant: they travel in a message, and the many of one must not hide those of another.
MISSING = """
SELECT named.tenant_id, acceptor_epoch, batch_number
FROM (SELECT DISTINCT tenant_id FROM missing_batches WHERE resolved_at IS NULL) AS held
CROSS JOIN LATERAL (
    SELECT tenant_id, acceptor_epoch, batch_number FROM missing_batches AS missing
    WHERE missing.tenant_id = held.tenant_id AND resolved_at IS NULL ORDER BY acceptor_epoch, batch_number LIMIT 3
) AS named
ORDER BY 1, 2, 3
"""
PARKED = "SELECT tenant_id, count(*) AS messages FROM parked_queue GROUP BY tenant_id ORDER BY tenant_id"
LAST_VERSION = "SELECT last_value FROM state_version"
ADD_POSITION = """
INSERT INTO stream_positions (stream_epoch, stream_seq, tenant_id, acceptor_epoch, batch_number)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
FORGET_POSITIONS = "DELETE FROM stream_positions WHERE stream_epoch <> $1 OR stream_seq <= $2"
FORGET_BEYOND = "DELETE FROM {} WHERE stream_epoch = $1 AND stream_seq > $2"
PURGE_BELOW = """
SELECT max(stream_seq) FROM markers WHERE stream_epoch = $1 AND stream_seq <= $2 AND marked_at < $3
"""
FORGET_MARKERS = "DELETE FROM markers WHERE stream_epoch <> $1 OR stream_seq < $2"
FORGET_RESOLVED = "DELETE FROM missing_batches WHERE resolved_at < $1"
