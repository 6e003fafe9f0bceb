"""Billing's tables, as the migrations leave them. Queue tables have no row-level security."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from libs.database import requests_table
from libs.messaging import inbox_table, parked_tables
from libs.outbox import fact_tables, lease_table, mark_table

MIGRATIONS = "services.billing.store.migrations"

metadata = sa.MetaData()

_INSTANT = sa.DateTime(timezone=True)


def _key(name: str, kind: Any = sa.Text) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, _INSTANT, nullable=nullable)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


requests = requests_table(metadata)
fact_outbox = fact_tables(metadata)
billing_period_marks = mark_table(metadata, "billing_period_marks")
leases = lease_table(metadata)
directory_marks = sa.Table("directory_marks", metadata, _key("tenant_id"), _key("item_key"), _instant("marked_at"))
inbox = inbox_table(metadata)
parked = parked_tables(metadata)

tenants = sa.Table(
    "tenants",
    metadata,
    _key("tenant_id"),
    _text("display_name"),
    _whole("invoice_grace_s"),
    sa.Column("reject_unknown_customers", sa.Boolean, nullable=False),
    _whole("event_past_limit_s"),
    _whole("event_future_limit_s"),
    _text("invoice_prefix"),
    _instant("created_at"),
    _whole("version"),
)

# Queue: every tenant has a row, so it is also the index of all tenants. test_time is null in real time.
clocks = sa.Table("clocks", metadata, _key("tenant_id"), _instant("test_time", nullable=True), _whole("version"))

api_keys = sa.Table(
    "api_keys",
    metadata,
    _key("tenant_id"),
    _key("key_id"),
    _text("display_name"),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    _instant("created_at"),
    _instant("revoked_at", nullable=True),
    _whole("version"),
)

customers = sa.Table(
    "customers",
    metadata,
    _key("tenant_id"),
    _key("customer_id"),
    _text("display_name"),
    _text("time_zone"),
    _instant("created_at"),
    _whole("version"),
)

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _text("customer_id"),
    _text("rate_card_id"),
    _text("currency"),
    sa.Column("starts_on", sa.Date, nullable=False),
    _text("anchor"),
    _text("time_zone"),
    _instant("created_at"),
    _instant("ended_at", nullable=True),
    _whole("next_period_index"),
)

billing_periods = sa.Table(
    "billing_periods",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _instant("period_end"),
    _whole("period_index"),
    _text("customer_id"),
    _text("rate_card_id"),
    _whole("version"),
    _whole("ordinal"),
    sa.Column("invoiced", sa.Boolean, nullable=False),
    _text("problem"),
    _instant("whole_start", nullable=True),
    _instant("whole_end", nullable=True),
)

# Queue: periods that are not invoiced. due_at on the tenant's clock; closing_at and try_at in real time.
due_periods = sa.Table(
    "due_periods",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _instant("due_at"),
    _instant("closing_at", nullable=True),
    _instant("try_at"),
)

# Queue: when (tenant's clock) a subscription needs its next billing period.
due_extensions = sa.Table("due_extensions", metadata, _key("tenant_id"), _key("subscription_id"), _instant("due_at"))

charges = sa.Table(
    "charges",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _key("price_id"),
    _text("customer_id"),
    _text("display_name"),
    _text("meter_id"),
    _whole("position"),
    _text("currency"),
    sa.Column("quantity", sa.Numeric, nullable=False),
    sa.Column("amount", sa.Numeric, nullable=False),
    _text("rounding_mode"),
    _text("rate_card_id"),
    _whole("rate_card_version"),
    _text("engine_version"),
    sa.Column("parts", sa.JSON, nullable=False),
    _whole("version"),
    _text("trace_parent"),
)

invoices = sa.Table(
    "invoices",
    metadata,
    _key("tenant_id"),
    _key("invoice_id"),
    _text("customer_id"),
    _text("subscription_id"),
    _instant("period_start"),
    _instant("period_end"),
    _text("kind"),
    _whole("ordinal"),
    _text("currency"),
    _text("state"),
    _text("invoice_number"),
    _whole("number_value", nullable=True),
    _whole("total_minor"),
    _instant("issued_at", nullable=True),
    _instant("paid_at", nullable=True),
    _text("payment_id"),
    _instant("voided_at", nullable=True),
    _text("void_reason"),
    _text("trace_parent"),
)

invoice_lines = sa.Table(
    "invoice_lines",
    metadata,
    _key("tenant_id"),
    _key("invoice_id"),
    _key("price_id"),
    _whole("position"),
    _text("display_name"),
    _text("meter_id"),
    sa.Column("quantity", sa.Numeric, nullable=False),
    _whole("amount_minor"),
    sa.Column("exact_amount", sa.Numeric, nullable=False),
    sa.Column("parts", JSONB, nullable=False),
    _text("rate_card_id"),
    _whole("rate_card_version"),
    _whole("charge_version"),
    _text("trace_parent"),
)

# What an invoice froze, copied by the database from `charges`: the other side of the reconciliation of lines.
frozen_charges = sa.Table(
    "frozen_charges",
    metadata,
    _key("tenant_id"),
    _key("invoice_id"),
    _key("price_id"),
    sa.Column("quantity", sa.Numeric, nullable=False),
    sa.Column("amount", sa.Numeric, nullable=False),
    _text("rounding_mode"),
    _whole("version"),
)

invoice_numbers = sa.Table("invoice_numbers", metadata, _key("tenant_id"), _whole("last_value"))

# Queue: one row, real time. received_watermarks wait until the consumer has acknowledged all that lies before them.
rating_watermark = sa.Table(
    "rating_watermark", metadata, _key("id", sa.Boolean), _instant("rated_through", nullable=True)
)
received_watermarks = sa.Table(
    "received_watermarks",
    metadata,
    _key("stream_epoch", _INSTANT),
    _key("stream_seq", sa.BigInteger),
    _instant("watermark_at"),
    sa.Column("holds", JSONB, nullable=False),
)
holds = sa.Table("holds", metadata, _key("tenant_id"), _key("reason"))
