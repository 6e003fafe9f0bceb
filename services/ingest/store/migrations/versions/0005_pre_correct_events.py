"""Take recorded usage back, or put other usage in its place.

Why: events are never edited, so a correction is an entry of its own; what has one counts nowhere. Old code names none
of these tables: an old recorder would count an event that was voided in advance, so recorders run the new code before
the query role does (ADR 0034).
"""

from __future__ import annotations

from alembic import op

from libs.database import append_only, row_security

revision = "0005"
down_revision = "0004"

_SERVICE = "ingest"
# An event has at most one. `position` is the order in which they were made: one request after the other, per tenant.
_CORRECTIONS = """
CREATE TABLE corrections (
    tenant_id text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    correction_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('void', 'replace')),
    replacement_source text,
    replacement_event_id text,
    reason text NOT NULL,
    actor text NOT NULL,
    api_key_id text NOT NULL,
    corrected_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, source, event_id),
    UNIQUE (tenant_id, position),
    UNIQUE (tenant_id, replacement_source, replacement_event_id),
    CHECK ((kind = 'replace') = (replacement_source IS NOT NULL)),
    CHECK ((kind = 'replace') = (replacement_event_id IS NOT NULL))
)
"""
# Voids whose event has not arrived. A row goes when it does, in the transaction that records it.
_WAITING = """
CREATE TABLE waiting_corrections (
    tenant_id text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    PRIMARY KEY (tenant_id, source, event_id)
)
"""
# What the first call was told, for the calls that repeat it.
_ANSWERS = """
CREATE TABLE correction_answers (
    tenant_id text NOT NULL,
    correction_id text NOT NULL,
    results jsonb NOT NULL,
    PRIMARY KEY (tenant_id, correction_id)
)
"""
_TABLES = {"corrections": _CORRECTIONS, "waiting_corrections": _WAITING, "correction_answers": _ANSWERS}
_APPEND_ONLY = ("corrections", "correction_answers")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, statement in _TABLES.items():
        op.execute(statement)
        for security in row_security(_SERVICE, table):
            op.execute(security)
    for table in _APPEND_ONLY:
        for statement in append_only(_SERVICE, table):
            op.execute(statement)
