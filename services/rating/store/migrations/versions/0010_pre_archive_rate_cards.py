"""Rate cards that are closed for new subscriptions.

Why: a plan that is no longer sold must not be chosen by mistake, while those who have it are charged by it. Old code
does not know the table, and takes archived cards for open ones.
"""

from alembic import op

from libs.database import row_security

revision = "0010"
down_revision = "0009"

_ARCHIVED = """
CREATE TABLE archived_rate_cards (
    tenant_id text NOT NULL,
    rate_card_id text NOT NULL,
    archived_at timestamptz NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (tenant_id, rate_card_id)
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_ARCHIVED)
    for rule in row_security("rating", "archived_rate_cards"):
        op.execute(rule)
