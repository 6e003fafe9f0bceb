"""SQL of corrections, all of one tenant."""

from __future__ import annotations

# The corrections of a tenant are made one after the other, so that what is decided from what is there stays true.
ONE_AFTER_THE_OTHER = "SELECT pg_advisory_xact_lock(hashtextextended('ingest:corrections:' || $1::text, 0))"
ANSWER_OF = "SELECT results FROM correction_answers WHERE tenant_id = $1 AND correction_id = $2"
ADD_ANSWER = "INSERT INTO correction_answers (tenant_id, correction_id, results) VALUES ($1, $2, $3::text::jsonb)"
# OFFSET 0 has ids looked up one by one, never all keys of the tenant read.
KNOWN = """
SELECT source, event_id, payload_hash, kind, replacement_source, replacement_event_id
FROM unnest($2::text[], $3::text[]) AS wanted (source, event_id)
LEFT JOIN LATERAL (
    SELECT payload_hash FROM event_keys
    WHERE tenant_id = $1 AND source = wanted.source AND event_id = wanted.event_id OFFSET 0
) AS recorded ON true
LEFT JOIN LATERAL (
    SELECT kind, replacement_source, replacement_event_id FROM corrections
    WHERE tenant_id = $1 AND source = wanted.source AND event_id = wanted.event_id OFFSET 0
) AS correction ON true
"""
ADD = """
INSERT INTO corrections (
    tenant_id, source, event_id, correction_id, kind, replacement_source, replacement_event_id, reason, actor,
    api_key_id, corrected_at)
SELECT $1, source, event_id, $2, kind, replacement_source, replacement_event_id, $8, $9, $10, $11
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS made (source, event_id, kind, replacement_source, replacement_event_id)
"""
ADD_WAITING = """
INSERT INTO waiting_corrections (tenant_id, source, event_id)
SELECT $1, source, event_id FROM unnest($2::text[], $3::text[]) AS made (source, event_id)
"""
LIST = """
SELECT source, event_id, kind, replacement_source, replacement_event_id, reason, actor, api_key_id, corrected_at,
    position, waiting.event_id IS NOT NULL AS waiting
FROM corrections AS made {join} waiting_corrections AS waiting USING (tenant_id, source, event_id)
WHERE tenant_id = $1 AND ($2::bigint IS NULL OR position < $2)
ORDER BY position DESC LIMIT $3
"""
