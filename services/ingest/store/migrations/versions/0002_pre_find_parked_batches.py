"""Find a tenant's parked messages that nobody has dealt with: producers ask for theirs with their receipts.

The api login may read all that is asked: `parked_messages` under its row-level security, `missing_batches` and
`abandoned_batches` as queue tables. Old code does not name the index.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("CREATE INDEX parked_messages_unresolved ON parked_messages (tenant_id) WHERE resolved_at IS NULL")
