"""Simulations, reasons of versions that a guard would have refused, and prices that were agreed with one customer.

Why: simulations add up by customer, with one customer in memory at a time, and need billing periods in that order. Old
code names neither the new column, of which what it stores has the default, nor the new table: it would charge by the
card alone, so overrides are created once all of rating runs the new code.
"""

from alembic import op

from libs.database import row_security

revision = "0006"
down_revision = "0005"

_OVERRIDES = """
CREATE TABLE price_overrides (
    tenant_id text NOT NULL,
    override_id text NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    rate_card_id text NOT NULL,
    customer_id text NOT NULL,
    subscription_id text NOT NULL,
    prices jsonb NOT NULL,
    effective_at timestamptz,
    end_at timestamptz,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, override_id),
    CHECK ((customer_id = '') <> (subscription_id = ''))
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "CREATE INDEX billing_periods_by_customer ON billing_periods"
        " (tenant_id, customer_id, subscription_id, period_start)"
    )
    op.execute(_OVERRIDES)
    for name in ("customer_id", "subscription_id"):
        op.execute(f"CREATE INDEX price_overrides_{name} ON price_overrides (tenant_id, {name}) WHERE {name} <> ''")
    for rule in row_security("rating", "price_overrides"):
        op.execute(rule)
    op.execute("ALTER TABLE rate_cards ADD COLUMN override_reason text NOT NULL DEFAULT ''")
