"""Meters, batches, event keys, the log, windows, and the queue tables of recorder and keeper."""

from __future__ import annotations

from alembic import op

from libs.database import append_only, queue_access, row_security
from services.ingest.store import tables

revision = "0001"
down_revision = None

_SERVICE = "ingest"
_KEY_PARTITIONS = 8

_METERS = """
CREATE TABLE meters (
    tenant_id text NOT NULL,
    meter_id text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    event_type text NOT NULL,
    aggregation text NOT NULL CHECK (aggregation IN ('count', 'sum')),
    expression text NOT NULL,
    filters jsonb NOT NULL,
    group_by text[] NOT NULL,
    unit text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, meter_id)
)
"""
_BATCHES = """
CREATE TABLE batches (
    tenant_id text NOT NULL,
    acceptor_epoch text NOT NULL,
    batch_number bigint NOT NULL CHECK (batch_number > 0),
    batch_id bigint GENERATED ALWAYS AS IDENTITY,
    received_at timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    event_count integer NOT NULL,
    rejected_count integer NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, acceptor_epoch, batch_number),
    UNIQUE (tenant_id, batch_id)
)
"""
_BATCH_RESULTS = """
CREATE TABLE batch_results (
    tenant_id text NOT NULL,
    batch_id bigint NOT NULL,
    recorded integer NOT NULL,
    duplicate integer NOT NULL,
    conflict integer NOT NULL,
    rejected integer NOT NULL,
    duplicate_ordinals integer[] NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (tenant_id, batch_id)
)
"""
# Hash partitions keep each index small enough to stay in memory, and let deletes be vacuumed piece by piece.
_EVENT_KEYS = """
CREATE TABLE event_keys (
    tenant_id text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    payload_hash bytea NOT NULL,
    received_at timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    ordinal integer NOT NULL,
    PRIMARY KEY (tenant_id, source, event_id)
) PARTITION BY HASH (event_id)
"""
_EVENTS = """
CREATE TABLE events (
    tenant_id text NOT NULL,
    received_at timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    ordinal integer NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    customer_id text NOT NULL,
    event_time_ns bigint NOT NULL,
    properties jsonb NOT NULL,
    measured jsonb NOT NULL,
    PRIMARY KEY (tenant_id, received_at, batch_id, ordinal)
) PARTITION BY RANGE (received_at)
"""
# Direct access to a partition would pass by the policies of its parent: nobody but the owner gets any.
_ENSURE_PARTITION = """
CREATE FUNCTION ensure_event_partition(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    month_start timestamptz := date_trunc('month', at);
    partition_name text := 'events_' || to_char(date_trunc('month', at), 'YYYY_MM');
BEGIN
    IF to_regclass(partition_name) IS NOT NULL THEN RETURN; END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ingest:event-partitions', 0));
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
        partition_name, month_start, month_start + interval '1 month');
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition_name);
    EXECUTE format('REVOKE ALL ON %I FROM ingest_api, ingest_worker', partition_name);
END $$
"""
_EXCEPTIONS = """
CREATE TABLE event_exceptions (
    tenant_id text NOT NULL,
    received_at timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    ordinal integer NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('conflict', 'rejected')),
    source text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    customer_id text NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    description text NOT NULL,
    PRIMARY KEY (tenant_id, received_at, batch_id, ordinal)
)
"""
_DUPLICATES = """
CREATE TABLE event_duplicates (
    tenant_id text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    times bigint NOT NULL,
    PRIMARY KEY (tenant_id, source, event_id)
)
"""
_EVENT_CUSTOMERS = """
CREATE TABLE event_customers (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    event_count bigint NOT NULL,
    PRIMARY KEY (tenant_id, customer_id)
) WITH (fillfactor = 70)
"""
_KNOWN_CUSTOMERS = """
CREATE TABLE known_customers (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, customer_id)
)
"""
# Free space in each page, so that an update changes the row without touching the three indexes.
_WINDOWS = """
CREATE TABLE usage_windows (
    tenant_id text NOT NULL,
    window_key bytea NOT NULL,
    meter_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    window_start timestamptz NOT NULL,
    dimensions jsonb NOT NULL,
    value numeric NOT NULL,
    event_count bigint NOT NULL CHECK (event_count >= 0),
    version bigint NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, window_key)
) WITH (fillfactor = 70)
"""
_COUNTERS = """
CREATE TABLE acceptor_counters (
    tenant_id text NOT NULL,
    acceptor_epoch text NOT NULL,
    accepted_total bigint NOT NULL,
    rejected_total bigint NOT NULL,
    recorded bigint NOT NULL,
    duplicate bigint NOT NULL,
    conflict bigint NOT NULL,
    rejected bigint NOT NULL,
    PRIMARY KEY (tenant_id, acceptor_epoch)
) WITH (fillfactor = 70)
"""
_INDEXES = (
    "CREATE INDEX events_customer ON events (tenant_id, customer_id, event_time_ns)",
    "CREATE INDEX events_time ON events (tenant_id, event_time_ns)",
    "CREATE INDEX event_exceptions_key ON event_exceptions (tenant_id, source, event_id)",
    "CREATE INDEX usage_windows_customer ON usage_windows (tenant_id, customer_id, window_start)",
    "CREATE INDEX usage_windows_meter ON usage_windows (tenant_id, meter_id, window_start)",
)
_QUEUES = {
    "meter_publications": """
        CREATE TABLE meter_publications (
            tenant_id text NOT NULL, meter_id text NOT NULL, due_at timestamptz NOT NULL,
            PRIMARY KEY (tenant_id, meter_id)
        )""",
    "stream_positions": """
        CREATE TABLE stream_positions (
            stream_epoch timestamptz NOT NULL, stream_seq bigint NOT NULL,
            tenant_id text NOT NULL, acceptor_epoch text NOT NULL, batch_number bigint NOT NULL,
            PRIMARY KEY (stream_epoch, stream_seq)
        )""",
    "markers": """
        CREATE TABLE markers (
            stream_epoch timestamptz NOT NULL, stream_seq bigint NOT NULL,
            marker_id text NOT NULL, marked_at timestamptz NOT NULL,
            PRIMARY KEY (stream_epoch, stream_seq)
        )""",
    "abandoned_batches": """
        CREATE TABLE abandoned_batches (
            tenant_id text NOT NULL, acceptor_epoch text NOT NULL, batch_number bigint NOT NULL,
            PRIMARY KEY (tenant_id, acceptor_epoch, batch_number)
        )""",
    "missing_batches": """
        CREATE TABLE missing_batches (
            tenant_id text NOT NULL, acceptor_epoch text NOT NULL, batch_number bigint NOT NULL,
            noticed_at timestamptz NOT NULL, resolved_at timestamptz,
            explains_position boolean NOT NULL DEFAULT false,
            PRIMARY KEY (tenant_id, acceptor_epoch, batch_number)
        )""",
    "batch_floors": """
        CREATE TABLE batch_floors (
            tenant_id text NOT NULL, acceptor_epoch text NOT NULL, checked_through bigint NOT NULL,
            PRIMARY KEY (tenant_id, acceptor_epoch)
        )""",
    "watermark_floor": """
        CREATE TABLE watermark_floor (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            stream_epoch timestamptz NOT NULL, stream_seq bigint NOT NULL, marked_at timestamptz NOT NULL
        )""",
}
_TENANT_TABLES = {
    "meters": _METERS,
    "batches": _BATCHES,
    "batch_results": _BATCH_RESULTS,
    "event_keys": _EVENT_KEYS,
    "events": _EVENTS,
    "event_exceptions": _EXCEPTIONS,
    "event_duplicates": _DUPLICATES,
    "event_customers": _EVENT_CUSTOMERS,
    "known_customers": _KNOWN_CUSTOMERS,
    "usage_windows": _WINDOWS,
    "acceptor_counters": _COUNTERS,
}
_APPEND_ONLY = ("meters", "batches", "batch_results", "event_keys", "events", "event_exceptions")


def upgrade() -> None:
    # Versions are (owner epoch, counter) in one number: 1 in the high bits, raised when restored from a backup.
    op.execute("CREATE SEQUENCE state_version AS bigint START WITH 1099511627776 MINVALUE 1099511627776")
    op.execute("GRANT USAGE, SELECT ON SEQUENCE state_version TO ingest_api, ingest_worker")
    for statement in (*_TENANT_TABLES.values(), *_QUEUES.values(), *_INDEXES, _ENSURE_PARTITION):
        op.execute(statement)
    tables.metadata.create_all(op.get_bind())
    _secure()
    op.execute("REVOKE ALL ON FUNCTION ensure_event_partition(timestamptz) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION ensure_event_partition(timestamptz) TO ingest_worker")


def _secure() -> None:
    for number in range(_KEY_PARTITIONS):
        name = f"event_keys_{number}"
        op.execute(
            f"CREATE TABLE {name} PARTITION OF event_keys"
            f" FOR VALUES WITH (MODULUS {_KEY_PARTITIONS}, REMAINDER {number})"
        )
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON {name} FROM ingest_api, ingest_worker")
    for table in (*_TENANT_TABLES, *(table.name for table in tables.TENANT_TABLES)):
        for statement in row_security(_SERVICE, table):
            op.execute(statement)
    for table in _APPEND_ONLY:
        for statement in append_only(_SERVICE, table):
            op.execute(statement)
    for table in (*_QUEUES, *(queue.name for queue in tables.QUEUES)):
        for statement in queue_access(_SERVICE, table):
            op.execute(statement)
