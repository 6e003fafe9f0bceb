"""Compare windows with the log and repair them, and count events for meters that came later.

Why: windows could be compared, but not put right; and the log, which nobody changes, has no place for what a newer
meter measures in older events. Old code names none of these tables: it would not see what was backfilled, so backfill
once every process runs the new code (ADR 0044).
"""

from __future__ import annotations

from alembic import op

from libs.database import append_only, queue_access, row_security

revision = "0013"
down_revision = "0012"

_SERVICE = "ingest"
# `position` says how far the phase has come; what it consists of is the phase's own.
_REPLAYS = """
CREATE TABLE replays (
    tenant_id text NOT NULL,
    replay_id text COLLATE "C" NOT NULL,
    mode text NOT NULL CHECK (mode IN ('rebuild', 'backfill')),
    dry_run boolean NOT NULL,
    meter_ids text[] NOT NULL,
    customer_ids text[] NOT NULL,
    range_start timestamptz,
    range_end timestamptz,
    state text NOT NULL CHECK (state IN ('building', 'ready', 'swapping', 'done', 'cancelled', 'failed')),
    phase text NOT NULL CHECK (phase IN ('counting', 'measuring', 'comparing', 'swapping', 'ended')),
    position jsonb NOT NULL DEFAULT '[]',
    events_in_scope bigint NOT NULL DEFAULT 0,
    events_read bigint NOT NULL DEFAULT 0,
    events_measured bigint NOT NULL DEFAULT 0,
    events_unmeasured bigint NOT NULL DEFAULT 0,
    windows_built bigint NOT NULL DEFAULT 0,
    windows_differing bigint NOT NULL DEFAULT 0,
    windows_swapped bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    failure text NOT NULL DEFAULT '',
    actor text NOT NULL,
    confirmed_by text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, replay_id)
)
"""
# The shadow: windows that differ from the log. Dimensions may be too long for an index, hence the number.
_WINDOWS = """
CREATE TABLE replay_windows (
    tenant_id text NOT NULL,
    replay_id text COLLATE "C" NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    meter_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    window_start timestamptz NOT NULL,
    dimensions jsonb NOT NULL,
    window_key bytea,
    live_value numeric NOT NULL,
    live_events bigint NOT NULL,
    live_latest_ns bigint NOT NULL,
    live_latest_position bigint NOT NULL,
    built_value numeric NOT NULL,
    built_events bigint NOT NULL,
    built_latest_ns bigint NOT NULL,
    built_latest_position bigint NOT NULL,
    PRIMARY KEY (tenant_id, replay_id, number)
)
"""
# Of an event as much as quantities are told from: its properties are those that the meter has as dimensions.
_MEASURED_COLUMNS = """
    meter_id text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL,
    batch_id bigint NOT NULL,
    ordinal integer NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    customer_id text NOT NULL,
    event_time_ns bigint NOT NULL,
    properties jsonb NOT NULL,
    value text NOT NULL
"""
_MEASUREMENTS = f"""
CREATE TABLE replay_measurements (
    tenant_id text NOT NULL,
    replay_id text COLLATE "C" NOT NULL,
    {_MEASURED_COLUMNS},
    PRIMARY KEY (tenant_id, replay_id, event_time_ns, batch_id, ordinal, meter_id)
)
"""
_BACKFILLED = f"""
CREATE TABLE backfilled_events (
    tenant_id text NOT NULL,
    {_MEASURED_COLUMNS},
    PRIMARY KEY (tenant_id, received_at, batch_id, ordinal, meter_id)
)
"""
_QUEUE = """
CREATE TABLE replay_queue (
    tenant_id text NOT NULL,
    replay_id text NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, replay_id)
)
"""
_INDEXES = (
    "CREATE UNIQUE INDEX replays_active ON replays (tenant_id) WHERE state IN ('building', 'ready', 'swapping')",
    "CREATE INDEX replay_windows_place ON replay_windows (tenant_id, replay_id, meter_id, customer_id, window_start)",
    "CREATE INDEX replay_measurements_customer"
    " ON replay_measurements (tenant_id, replay_id, meter_id, customer_id, event_time_ns)",
    "CREATE INDEX backfilled_events_customer ON backfilled_events (tenant_id, customer_id, event_time_ns)",
    "CREATE INDEX backfilled_events_time ON backfilled_events (tenant_id, event_time_ns)",
)
_TENANT_TABLES = {
    "replays": _REPLAYS,
    "replay_windows": _WINDOWS,
    "replay_measurements": _MEASUREMENTS,
    "backfilled_events": _BACKFILLED,
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (*_TENANT_TABLES.values(), _QUEUE, *_INDEXES):
        op.execute(statement)
    for table in _TENANT_TABLES:
        for statement in row_security(_SERVICE, table):
            op.execute(statement)
    for statement in (*append_only(_SERVICE, "backfilled_events"), *queue_access(_SERVICE, "replay_queue")):
        op.execute(statement)
