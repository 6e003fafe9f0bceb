"""Prices of a card in further currencies, and which one a billing period and an override are in.

Why: one card is sold in several currencies, with amounts of its own in each. Empty means the card's `currency`: so are
periods and overrides from before, and those that old code stores. Old code takes every period for one in that currency;
billing refuses charges in another one than the subscription's.
"""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE rate_cards ADD COLUMN further_currencies jsonb NOT NULL DEFAULT '[]'")
    op.execute("ALTER TABLE billing_periods ADD COLUMN currency text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE price_overrides ADD COLUMN currency text NOT NULL DEFAULT ''")
