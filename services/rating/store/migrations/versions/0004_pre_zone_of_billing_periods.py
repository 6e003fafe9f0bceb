"""Remember the zone of billing periods.

Why: prorated usage counts days, and those are the customer's. Old code never names this column, and what it stores has
the default; so have billing periods from before, whose days go on being those of UTC until billing says otherwise.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE billing_periods ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC'")
