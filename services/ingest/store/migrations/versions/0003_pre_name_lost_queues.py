"""Name the loss of the whole queue, of which no batch number tells.

Why: a queue that is made anew, or that ends earlier than before, has lost what acceptors sent last; if they died with
it, no later number shows the gap. Old code never names this table.
"""

from alembic import op

from libs.database import queue_access

revision = "0003"
down_revision = "0002"

_TABLE = """
CREATE TABLE queue_losses (
    stream_epoch timestamptz NOT NULL,
    stream_seq bigint NOT NULL,
    noticed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    PRIMARY KEY (stream_epoch, stream_seq)
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_TABLE)
    for statement in queue_access("ingest", "queue_losses"):
        op.execute(statement)
