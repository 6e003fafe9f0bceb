"""Find billing periods in the order of their customers, and keep why a card was stored in spite of its guard.

Why: simulations add up by customer, with one customer in memory at a time. Old code never names the new column, and
what it stores has the default.
"""

from alembic import op

revision = "0006"
down_revision = "0004"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "CREATE INDEX billing_periods_by_customer ON billing_periods"
        " (tenant_id, customer_id, subscription_id, period_start)"
    )
    op.execute("ALTER TABLE rate_cards ADD COLUMN override_reason text NOT NULL DEFAULT ''")
