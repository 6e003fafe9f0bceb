"""Tables of prices, as the migrations leave them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.rating.store.table_columns import instant, key, metadata, text

# Versions never change. effective_at is null on a first version that is in force from the beginning of time.
rate_cards = sa.Table(
    "rate_cards",
    metadata,
    key("tenant_id"),
    key("rate_card_id"),
    key("version", sa.Integer()),
    text("display_name"),
    text("currency"),
    instant("effective_at", nullable=True),
    sa.Column("prices", JSONB, nullable=False),
    instant("created_at"),
    text("override_reason"),
    sa.Column("further_currencies", JSONB, nullable=False),
)

# Closed for new subscriptions, all versions of them.
archived_rate_cards = sa.Table(
    "archived_rate_cards",
    metadata,
    key("tenant_id"),
    key("rate_card_id"),
    instant("archived_at"),
    text("reason"),
)

# For all subscriptions of a customer or for one: the other id is empty. Of a row only end_at changes.
price_overrides = sa.Table(
    "price_overrides",
    metadata,
    key("tenant_id"),
    key("override_id"),
    sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
    text("rate_card_id"),
    text("customer_id"),
    text("subscription_id"),
    sa.Column("prices", JSONB, nullable=False),
    instant("effective_at", nullable=True),
    instant("end_at", nullable=True),
    text("reason"),
    instant("created_at"),
    text("currency"),
    sa.Index("price_overrides_customer_id", "tenant_id", "customer_id", postgresql_where=sa.text("customer_id <> ''")),
    sa.Index(
        "price_overrides_subscription_id",
        "tenant_id",
        "subscription_id",
        postgresql_where=sa.text("subscription_id <> ''"),
    ),
)
