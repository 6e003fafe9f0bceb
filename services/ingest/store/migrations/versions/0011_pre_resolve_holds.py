"""Resolve holds on record, and write off what the queue lost.

Why: people lifted holds by SQL, nobody could see who and why, and the events of a lost batch were missing in the
accounts for good. How many there were is told by the totals of the batches before and behind it, so a batch now keeps
its acceptor's totals; batches recorded by old code have none, and a gap beside one of them is not written off. Old code
names none of this.
"""

from __future__ import annotations

from alembic import op

from libs.database import append_only, row_security

revision = "0011"
down_revision = "0010"

# Tenant `-`: what holds everybody. A resolution of a batch names it, so that its events can be written off.
_RESOLUTIONS = """
CREATE TABLE hold_resolutions (
    tenant_id text NOT NULL,
    hold_id text COLLATE "C" NOT NULL,
    acceptor_epoch text NOT NULL,
    batch_number bigint NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    resolved_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, hold_id)
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_RESOLUTIONS)
    for statement in (*row_security("ingest", "hold_resolutions"), *append_only("ingest", "hold_resolutions")):
        op.execute(statement)
    op.execute("ALTER TABLE missing_batches ADD COLUMN written_off boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE batches ADD COLUMN accepted_total bigint, ADD COLUMN rejected_total bigint")
