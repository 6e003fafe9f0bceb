"""Keep quantities that usage windows do not add up to.

Why: of a greatest value or a number of distinct users only ingest can tell the quantity of a billing period. Old code
names neither table; a price that needs them is stored so that old code cannot price by it instead of adding windows up.
"""

from alembic import op

from libs.database import row_security

revision = "0002"
down_revision = "0001"

_TABLES = {
    "exact_prices": """
        CREATE TABLE exact_prices (
            tenant_id text NOT NULL,
            meter_id text NOT NULL,
            rate_card_id text NOT NULL,
            PRIMARY KEY (tenant_id, meter_id, rate_card_id)
        )""",
    "exact_usage": """
        CREATE TABLE exact_usage (
            tenant_id text NOT NULL,
            subscription_id text NOT NULL,
            period_start timestamptz NOT NULL,
            meter_id text NOT NULL,
            value numeric NOT NULL,
            event_count bigint NOT NULL,
            highest_version bigint NOT NULL,
            question bigint NOT NULL,
            PRIMARY KEY (tenant_id, subscription_id, period_start, meter_id)
        )""",
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("CREATE SEQUENCE usage_question")
    op.execute("GRANT USAGE, SELECT ON SEQUENCE usage_question TO rating_api, rating_worker")
    for name, statement in _TABLES.items():
        op.execute(statement)
        for rule in row_security("rating", name):
            op.execute(rule)
