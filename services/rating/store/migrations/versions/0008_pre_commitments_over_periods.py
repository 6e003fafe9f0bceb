"""Keep what billing periods cost before commitments over several of them.

Why: a billing period of such a term is priced by what the earlier ones cost. Old code names none of these tables; cards
with such prices, which fill the first one, are created once all of rating runs the new code (ADR 0056).
"""

from alembic import op

from libs.database import row_security

revision = "0008"
down_revision = "0006"

_TABLES = {
    "committed_cards": """
        CREATE TABLE committed_cards (
            tenant_id text NOT NULL,
            rate_card_id text NOT NULL,
            PRIMARY KEY (tenant_id, rate_card_id)
        )""",
    "committed_subscriptions": """
        CREATE TABLE committed_subscriptions (
            tenant_id text NOT NULL,
            subscription_id text NOT NULL,
            PRIMARY KEY (tenant_id, subscription_id)
        )""",
    "committed_costs": """
        CREATE TABLE committed_costs (
            tenant_id text NOT NULL,
            subscription_id text NOT NULL,
            period_start timestamptz NOT NULL,
            price_id text NOT NULL,
            term_start timestamptz NOT NULL,
            used numeric NOT NULL,
            cost numeric NOT NULL,
            PRIMARY KEY (tenant_id, subscription_id, period_start, price_id)
        ) WITH (fillfactor = 45)""",
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, statement in _TABLES.items():
        op.execute(statement)
        for rule in row_security("rating", name):
            op.execute(rule)
