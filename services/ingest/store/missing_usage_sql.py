"""SQL that finds missing usage. Tenant tables are read under the row-level security of a chunk of tenants."""

from __future__ import annotations

from services.ingest.domain.findings import DEFAULT_ALLOWANCE

DEFAULT_ALLOWANCE_S = int(DEFAULT_ALLOWANCE.total_seconds())


def expectation_of(row: str) -> str:
    """A lateral row with what is expected of the source of `row`: what is said of it, or else of all."""
    return f"""LATERAL (
        SELECT heartbeat_s, learns_cadence, allowance_s, holding_kinds FROM source_expectations
        WHERE source_expectations.tenant_id = {row}.tenant_id AND source_expectations.source IN ({row}.source, '')
        ORDER BY source_expectations.source DESC LIMIT 1
    )"""  # noqa: S608 - put together from constants


def _is_new(row: str, kind: str, subject: str) -> str:
    """What a person has resolved opens no finding again."""
    return f"""NOT EXISTS (
        SELECT FROM findings WHERE findings.tenant_id = {row}.tenant_id AND kind = '{kind}'
            AND findings.source = {row}.source AND subject = {subject} AND resolution <> 'itself'
    )"""


TENANTS = "SELECT tenant_id FROM missing_usage_tenants ORDER BY tenant_id"
HOLDING_TENANTS = "SELECT tenant_id FROM missing_usage_tenants WHERE holds_invoices ORDER BY tenant_id"
SEE_TENANTS = "SELECT set_config('app.tenants', $1, true)"

_GAP_SUBJECT = "gap.sequence_epoch || ':' || lower(gap.numbers)"
_COUNT = "(SELECT coalesce(sum(upper(run) - lower(run)), 0)::bigint FROM unnest(still.numbers) AS run)"
# $1 is a watermark. What was acknowledged before it is recorded, so a number that still waits in the queue is no gap,
# however long the queue is.
_DUE_GAPS = f"""
FROM sequence_gaps AS gap
JOIN source_sequences AS kept USING (tenant_id, source, sequence_epoch)
CROSS JOIN LATERAL (SELECT kept.missing * int8multirange(gap.numbers) AS numbers) AS still
LEFT JOIN {expectation_of("gap")} AS expected ON true
WHERE NOT isempty(still.numbers)
    AND gap.noticed_at + make_interval(secs => coalesce(allowance_s, {DEFAULT_ALLOWANCE_S})) <= $1
    AND {_is_new("gap", "sequence_gap", _GAP_SUBJECT)}
"""
NEW_GAPS = f"""
SELECT gap.tenant_id, 'sequence_gap' AS kind, gap.source, {_GAP_SUBJECT} AS subject,
    jsonb_build_object(
        'sequence_epoch', gap.sequence_epoch, 'first_missing', lower(still.numbers),
        'last_missing', upper(still.numbers) - 1, 'missing_count', {_COUNT},
        'before_time', gap.seen_before_at, 'after_time', gap.noticed_at) AS evidence
{_DUE_GAPS} LIMIT 1000
"""
# Of gaps that have a finding: some of their numbers came meanwhile, or all.
CHANGED_GAPS = f"""
WITH changed AS (
    SELECT found.tenant_id, found.finding_id, still.numbers, {_COUNT} AS missing_count
    FROM findings AS found
    JOIN source_sequences AS kept ON kept.tenant_id = found.tenant_id AND kept.source = found.source
        AND kept.sequence_epoch = found.evidence ->> 'sequence_epoch' AND NOT kept.is_ragged
    CROSS JOIN LATERAL (
        SELECT kept.missing * int8multirange(int8range(
            (found.evidence ->> 'first_missing')::bigint, (found.evidence ->> 'last_missing')::bigint, '[]')) AS numbers
    ) AS still
    WHERE found.resolved_at IS NULL AND found.kind = 'sequence_gap'
        AND {_COUNT} <> (found.evidence ->> 'missing_count')::bigint
    ORDER BY found.tenant_id, found.finding_id
)
UPDATE findings SET
    updated_at = $1,
    resolved_at = CASE WHEN isempty(numbers) THEN $1::timestamptz END,
    resolution = CASE WHEN isempty(numbers) THEN 'itself' ELSE '' END,
    evidence = CASE WHEN isempty(numbers) THEN evidence ELSE evidence || jsonb_build_object(
        'first_missing', lower(numbers), 'last_missing', upper(numbers) - 1, 'missing_count', missing_count) END
FROM changed
WHERE findings.tenant_id = changed.tenant_id AND findings.finding_id = changed.finding_id AND resolved_at IS NULL
"""  # noqa: S608 - put together from constants
FORGET_CLOSED_GAPS = """
DELETE FROM sequence_gaps AS gap USING source_sequences AS kept
WHERE (kept.tenant_id, kept.source, kept.sequence_epoch) = (gap.tenant_id, gap.source, gap.sequence_epoch)
    AND isempty(kept.missing * int8multirange(gap.numbers))
"""
_NEW_UNUSABLE = f"""
FROM source_sequences AS kept
WHERE kept.is_ragged AND {_is_new("kept", "sequence_unusable", "kept.sequence_epoch")}
"""
UNUSABLE = f"""
SELECT kept.tenant_id, 'sequence_unusable' AS kind, kept.source, kept.sequence_epoch AS subject,
    jsonb_build_object(
        'sequence_epoch', kept.sequence_epoch, 'first_missing', lower(kept.numbers),
        'last_missing', upper(kept.numbers) - 1, 'missing_count', 0,
        'before_time', kept.previous_received_at, 'after_time', kept.last_received_at) AS evidence
{_NEW_UNUSABLE} LIMIT 1000
"""

# $2 and $3 are the tenants on test clocks and their times. A pause in bucket n was shorter than 2^(n-1) seconds.
SILENT = f"""
SELECT known.tenant_id, 'source_silent' AS kind, known.source, since.subject,
    jsonb_build_object(
        'last_time', known.last_at, 'expected_within_s', within.seconds,
        'is_learned', within.seconds IS DISTINCT FROM nullif(heartbeat_s, 0)) AS evidence
FROM (
    SELECT tenant_id, source, last_at, last_at AS since_at, pause_counts FROM source_activity
    UNION ALL
    SELECT tenant_id, source, NULL, set_at, NULL FROM source_expectations AS asked
    WHERE source <> '' AND NOT EXISTS (
        SELECT FROM source_activity AS heard
        WHERE heard.tenant_id = asked.tenant_id AND heard.source = asked.source)
) AS known
CROSS JOIN {expectation_of("known")} AS expected
LEFT JOIN unnest($2::text[], $3::timestamptz[]) AS clock (tenant_id, now_at) ON clock.tenant_id = known.tenant_id
LEFT JOIN LATERAL (
    SELECT greatest(60, 3 * (1::bigint << (min(bucket)::int - 1))) AS seconds
    FROM (
        SELECT bucket, sum(count) OVER (ORDER BY bucket) AS through, sum(count) OVER () AS total
        FROM unnest(known.pause_counts) WITH ORDINALITY AS counted (count, bucket)
    ) AS pauses
    WHERE learns_cadence AND total >= 20 AND through * 100 >= total * 99
    HAVING count(*) > 0
) AS learned ON true
CROSS JOIN LATERAL (SELECT least(nullif(heartbeat_s, 0), learned.seconds) AS seconds) AS within
CROSS JOIN LATERAL (SELECT coalesce('after ' || known.last_at, 'never') AS subject) AS since
WHERE since_at + make_interval(secs => within.seconds) < coalesce(clock.now_at, $1)
    AND {_is_new("known", "source_silent", "since.subject")}
LIMIT 1000
"""  # noqa: S608 - put together from constants
HEARD_AGAIN = """
UPDATE findings SET updated_at = $1, resolved_at = $1, resolution = 'itself'
FROM source_activity AS heard
WHERE findings.resolved_at IS NULL AND kind = 'source_silent'
    AND heard.tenant_id = findings.tenant_id AND heard.source = findings.source
    AND heard.last_at IS DISTINCT FROM (evidence ->> 'last_time')::timestamptz
"""
ADD_FINDINGS = """
INSERT INTO findings (tenant_id, finding_id, kind, source, subject, evidence, opened_at, updated_at)
SELECT tenant_id, finding_id, kind, source, subject, evidence::jsonb, $7, $7
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS found (tenant_id, finding_id, kind, source, subject, evidence)
ON CONFLICT (tenant_id, kind, source, subject) WHERE resolution <> 'itself' DO NOTHING
RETURNING finding_id
"""
WATERMARK = "SELECT marked_at FROM watermark_floor"
# What holds at the watermark $1, as the keeper asks: open findings, gaps that are due and numbers that cannot be used
# but have no finding yet, manifests that are not compared. So a watermark never passes ahead of the job that opens
# findings.
HOLDS = f"""
SELECT item.tenant_id, item.kind, count(*) AS items
FROM (
    SELECT tenant_id, source, kind FROM findings WHERE resolved_at IS NULL
    UNION ALL
    SELECT gap.tenant_id, gap.source, 'sequence_gap' {_DUE_GAPS}
    UNION ALL
    SELECT kept.tenant_id, kept.source, 'sequence_unusable' {_NEW_UNUSABLE}
    UNION ALL
    SELECT tenant_id, source, 'manifest_disagrees' FROM manifests WHERE state = 'pending'
) AS item
CROSS JOIN {expectation_of("item")} AS expected
WHERE item.kind = ANY (holding_kinds)
GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608 - put together from constants
