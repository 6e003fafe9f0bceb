"""Find what producers meant to send and did not: numbers of sources, manifests, silence, and findings.

Why: an event that never reached an acceptor leaves no trace in the log; only its producer can tell that there was one.
Numbers of a source are one row of merged ranges, so any order and repetition of them gives the same row. Old code names
none of these tables; events that it records are counted as not seen, so producers number once every recorder is new.
"""

from __future__ import annotations

from alembic import op

from libs.database import queue_access, row_security

revision = "0012"
down_revision = "0011"

_SERVICE = "ingest"

# What is missing between the first and the last number is derived, so it cannot disagree. Numbers of an epoch begin
# with 1; without an epoch nobody knows where they began.
_SEQUENCES = """
CREATE TABLE source_sequences (
    tenant_id text NOT NULL,
    source text NOT NULL,
    sequence_epoch text NOT NULL,
    numbers int8multirange NOT NULL,
    missing int8multirange GENERATED ALWAYS AS (
        int8multirange(int8range(CASE WHEN sequence_epoch = '' THEN lower(numbers) ELSE 1 END, upper(numbers)))
            - numbers
    ) STORED,
    is_ragged boolean NOT NULL,
    previous_received_at timestamptz,
    last_received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source, sequence_epoch)
) WITH (fillfactor = 70)
"""
_GAPS = """
CREATE TABLE sequence_gaps (
    tenant_id text NOT NULL,
    source text NOT NULL,
    sequence_epoch text NOT NULL,
    numbers int8range NOT NULL,
    seen_before_at timestamptz,
    noticed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source, sequence_epoch, numbers)
)
"""
_ACTIVITY = """
CREATE TABLE source_activity (
    tenant_id text NOT NULL,
    source text COLLATE "C" NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    last_received_at timestamptz NOT NULL,
    pause_counts bigint[] NOT NULL,
    PRIMARY KEY (tenant_id, source)
) WITH (fillfactor = 70)
"""
_EXPECTATIONS = """
CREATE TABLE source_expectations (
    tenant_id text NOT NULL,
    source text COLLATE "C" NOT NULL,
    heartbeat_s bigint NOT NULL CHECK (heartbeat_s >= 0),
    learns_cadence boolean NOT NULL,
    allowance_s bigint NOT NULL CHECK (allowance_s >= 0),
    holding_kinds text[] NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source)
)
"""
_MANIFESTS = """
CREATE TABLE manifests (
    tenant_id text NOT NULL,
    manifest_id text COLLATE "C" NOT NULL,
    source text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL CHECK (period_end > period_start),
    version integer NOT NULL,
    lines jsonb NOT NULL,
    submitted_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'agreed', 'disagreed', 'replaced')),
    compared_at timestamptz,
    compare_after timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, manifest_id),
    UNIQUE (tenant_id, source, period_start, period_end, version)
)
"""
_FINDINGS = """
CREATE TABLE findings (
    tenant_id text NOT NULL,
    finding_id text COLLATE "C" NOT NULL,
    kind text NOT NULL
        CHECK (kind IN ('sequence_gap', 'sequence_unusable', 'source_silent', 'manifest_disagrees')),
    source text NOT NULL,
    subject text NOT NULL,
    evidence jsonb NOT NULL,
    opened_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolution text NOT NULL DEFAULT '' CHECK (resolution IN ('', 'itself', 'person')),
    reason text NOT NULL DEFAULT '',
    actor text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, finding_id),
    CHECK ((resolution = '') = (resolved_at IS NULL))
)
"""
# Without row-level security: only which tenants there is something to look at for.
_TENANTS = """
CREATE TABLE missing_usage_tenants (
    tenant_id text PRIMARY KEY,
    tracks_sources boolean NOT NULL DEFAULT false,
    holds_invoices boolean NOT NULL DEFAULT false
)
"""
_INDEXES = (
    "CREATE UNIQUE INDEX findings_subject ON findings (tenant_id, kind, source, subject) WHERE resolution <> 'itself'",
    "CREATE INDEX findings_open ON findings (tenant_id) WHERE resolved_at IS NULL",
    "CREATE INDEX manifests_due ON manifests (tenant_id, compare_after) WHERE state IN ('pending', 'disagreed')",
    "CREATE INDEX sequences_unusable ON source_sequences (tenant_id) WHERE is_ragged",
)
# Pauses by powers of two seconds. Counts are halved at 1,024, so that what was long ago counts less and less.
_COUNTED = """
CREATE FUNCTION counted_pause(counts bigint[], pause_s bigint) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(
        CASE WHEN total >= 1024 THEN count / 2 ELSE count END
            + CASE WHEN place = bucket AND pause_s >= 0 THEN 1 ELSE 0 END ORDER BY place)
    FROM (
        SELECT count, place, sum(count) OVER () AS total,
            1 + width_bucket(pause_s, ARRAY(SELECT 1::bigint << exponent FROM generate_series(0, 30) AS exponent))
                AS bucket
        FROM unnest(counts) WITH ORDINALITY AS counted (count, place)
    ) AS pauses
$$
"""
_TENANT_TABLES = {
    "source_sequences": _SEQUENCES,
    "sequence_gaps": _GAPS,
    "source_activity": _ACTIVITY,
    "source_expectations": _EXPECTATIONS,
    "manifests": _MANIFESTS,
    "findings": _FINDINGS,
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (*_TENANT_TABLES.values(), _TENANTS, *_INDEXES, _COUNTED):
        op.execute(statement)
    for table in _TENANT_TABLES:
        for statement in row_security(_SERVICE, table):
            op.execute(statement)
    for statement in queue_access(_SERVICE, "missing_usage_tenants"):
        op.execute(statement)
