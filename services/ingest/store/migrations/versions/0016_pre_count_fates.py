"""Count the fates of events by hour of receipt and source, and keep where a standing job found the counts differ.

Why: who sends too much twice, or wrongly, is found by source and time; and that all sides agree should be known without
being asked for. Counts begin with this release; what old code records meanwhile is not counted. The index on `batches`
is made while recorders wait: it has one entry for hundreds of events.
"""

from __future__ import annotations

from alembic import op

from libs.database import queue_access, row_security

revision = "0016"
down_revision = "0015"

# Rows of the present hour change with every chunk: room for that in each page.
_COUNTS = """
CREATE TABLE fate_counts (
    tenant_id text NOT NULL,
    hour_start timestamptz NOT NULL,
    source text COLLATE "C" NOT NULL,
    recorded bigint NOT NULL CHECK (recorded >= 0),
    duplicate bigint NOT NULL CHECK (duplicate >= 0),
    conflict bigint NOT NULL CHECK (conflict >= 0),
    rejected bigint NOT NULL CHECK (rejected >= 0),
    rejected_at_door bigint NOT NULL CHECK (rejected_at_door >= 0),
    PRIMARY KEY (tenant_id, hour_start, source)
) WITH (fillfactor = 70)
"""
# `hour_start` is of receipt, for windows that of their events.
_DIFFERENCES = """
CREATE TABLE fate_differences (
    tenant_id text NOT NULL,
    equation text NOT NULL,
    hour_start timestamptz NOT NULL,
    subject text COLLATE "C" NOT NULL,
    left_side text NOT NULL,
    right_side text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    resolved_at timestamptz,
    PRIMARY KEY (tenant_id, hour_start, equation, subject)
)
"""
# Hours of receipt before `next_hour` are checked; `last_sealed` is the hour whose windows were compared last.
_AUDITS = """
CREATE TABLE fate_audits (
    tenant_id text PRIMARY KEY,
    next_hour timestamptz NOT NULL,
    last_sealed timestamptz NOT NULL,
    checked_at timestamptz NOT NULL,
    open_differences bigint NOT NULL
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, statement in {"fate_counts": _COUNTS, "fate_differences": _DIFFERENCES}.items():
        op.execute(statement)
        for security in row_security("ingest", table):
            op.execute(security)
    op.execute(_AUDITS)
    for access in queue_access("ingest", "fate_audits"):
        op.execute(access)
    op.execute("CREATE INDEX batches_received ON batches (tenant_id, received_at)")
