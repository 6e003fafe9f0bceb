"""Keep the usage of billing periods by dimensions, for prices that depend on them.

Why: roll-ups are over all dimensions. Old code names neither table and does not keep the second one up; cards with
such prices, which fill the first one, are created once all of rating runs the new code (ADR 0043).
"""

from alembic import op

from libs.database import row_security

revision = "0003"
down_revision = "0002"

_TABLES = {
    "matrix_prices": """
        CREATE TABLE matrix_prices (
            tenant_id text NOT NULL,
            meter_id text NOT NULL,
            rate_card_id text NOT NULL,
            PRIMARY KEY (tenant_id, meter_id, rate_card_id)
        )""",
    "period_dimensions": """
        CREATE TABLE period_dimensions (
            tenant_id text NOT NULL,
            subscription_id text NOT NULL,
            period_start timestamptz NOT NULL,
            meter_id text NOT NULL,
            dimensions_key bytea NOT NULL,
            dimensions jsonb NOT NULL,
            value numeric NOT NULL,
            event_count bigint NOT NULL,
            PRIMARY KEY (tenant_id, subscription_id, period_start, meter_id, dimensions_key)
        ) WITH (fillfactor = 50)""",
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, statement in _TABLES.items():
        op.execute(statement)
        for rule in row_security("rating", name):
            op.execute(rule)
