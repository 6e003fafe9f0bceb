"""Seal the log: a hash chain over what was recorded, and over what each hour came to.

Why: rows that nobody may change can still be changed by whoever owns the database; a chain shows it, and what customers
keep of it cannot be made anew. Old code goes on: its batches have digests of version 1 and no oldest time, and the
trigger puts them into the queue like any other. Corrections by old code do not queue their hours, so the query role
runs the new code before seals are relied on (ADR 0046). Batches from before are queued here.
"""

from __future__ import annotations

from alembic import op

from libs.database import append_only, queue_access, row_security

revision = "0015"
down_revision = "0013"

_SERVICE = "ingest"

# `chain_hash` covers all entries up to this one. A batch is linked once.
_LINKS = """
CREATE TABLE log_links (
    tenant_id text NOT NULL,
    position bigint NOT NULL CHECK (position > 0),
    kind text NOT NULL CHECK (kind IN ('batch', 'hour')),
    batch_id bigint,
    hour_start timestamptz,
    hour_version integer,
    entry_hash bytea NOT NULL,
    chain_hash bytea NOT NULL,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, position),
    CHECK ((kind = 'batch') = (batch_id IS NOT NULL)),
    CHECK ((kind = 'hour') = (hour_start IS NOT NULL AND hour_version IS NOT NULL))
)
"""
_SEALS = """
CREATE TABLE hour_seals (
    tenant_id text NOT NULL,
    hour_start timestamptz NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    position bigint NOT NULL,
    cause text NOT NULL,
    event_count bigint NOT NULL,
    window_count bigint NOT NULL,
    windows_digest bytea NOT NULL,
    sealed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, hour_start, version)
)
"""
_SUMS = """
CREATE TABLE hour_seal_sums (
    tenant_id text NOT NULL,
    hour_start timestamptz NOT NULL,
    version integer NOT NULL,
    meter_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    event_count bigint NOT NULL,
    window_count bigint NOT NULL,
    value_sum numeric NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (tenant_id, hour_start, version, meter_id, customer_id)
)
"""
# Ids of batches do not tell what has committed: a transaction with a lower one may commit later. A queue does.
_UNSEALED = """
CREATE TABLE unsealed_batches (
    tenant_id text NOT NULL, batch_id bigint NOT NULL, PRIMARY KEY (tenant_id, batch_id)
)
"""
# A row per change, never shared between two: the sealer takes away only what it has seen.
_HOURS = """
CREATE TABLE hours_to_seal (
    tenant_id text NOT NULL, entry_id bigint GENERATED ALWAYS AS IDENTITY,
    hour_start timestamptz NOT NULL, cause text NOT NULL,
    PRIMARY KEY (tenant_id, hour_start, entry_id)
)
"""
# Hours before `hour_start` are sealed: what changes in them afterwards is a new version.
_THROUGH = """
CREATE TABLE sealed_through (tenant_id text PRIMARY KEY, hour_start timestamptz NOT NULL) WITH (fillfactor = 70)
"""
_QUEUE_BATCHES = """
CREATE FUNCTION queue_unsealed_batches() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unsealed_batches (tenant_id, batch_id) SELECT tenant_id, batch_id FROM added;
    RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE TRIGGER batch_results_unsealed AFTER INSERT ON batch_results REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION queue_unsealed_batches()
"""
# The owner obeys row-level security too, and would see no row of batch_results.
_BACKFILL = (
    "ALTER TABLE batch_results NO FORCE ROW LEVEL SECURITY",
    "INSERT INTO unsealed_batches (tenant_id, batch_id) SELECT tenant_id, batch_id FROM batch_results",
    "ALTER TABLE batch_results FORCE ROW LEVEL SECURITY",
)
_APPEND_ONLY = {"log_links": _LINKS, "hour_seals": _SEALS, "hour_seal_sums": _SUMS}
_QUEUES = {"unsealed_batches": _UNSEALED, "hours_to_seal": _HOURS, "sealed_through": _THROUGH}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE batch_results ADD COLUMN digest_version smallint NOT NULL DEFAULT 1")
    op.execute("ALTER TABLE batch_results ADD COLUMN oldest_ns bigint")
    for table, statement in _APPEND_ONLY.items():
        op.execute(statement)
        for security in (*row_security(_SERVICE, table), *append_only(_SERVICE, table)):
            op.execute(security)
        op.execute(f"REVOKE INSERT ON {table} FROM ingest_api")  # Only the sealer links.
    op.execute("CREATE UNIQUE INDEX log_links_batch ON log_links (tenant_id, batch_id) WHERE batch_id IS NOT NULL")
    for table, statement in _QUEUES.items():
        op.execute(statement)
        for access in queue_access(_SERVICE, table):
            op.execute(access)
    for statement in (_QUEUE_BATCHES, _TRIGGER, *_BACKFILL):
        op.execute(statement)
