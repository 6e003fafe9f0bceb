"""Payments' tables, as the migrations leave them. `payment_tasks`, a queue, has no row-level security."""

from __future__ import annotations

import sqlalchemy as sa

from libs.database import requests_table
from libs.messaging import inbox_table, parked_tables
from libs.outbox import fact_tables

MIGRATIONS = "services.payments.store.migrations"

metadata = sa.MetaData()


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _number_key(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _minor_units(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


requests = requests_table(metadata)
inbox = inbox_table(metadata)
facts = fact_tables(metadata)
parked = parked_tables(metadata)

# What payments knows of billing's invoices; an invoice that may not be collected can be here before it is issued.
invoices = sa.Table(
    "invoices",
    metadata,
    _key("tenant_id"),
    _key("invoice_id"),
    _text("invoice_number"),
    _text("customer_id"),
    _text("currency"),
    _minor_units("total_minor_units"),
    _minor_units("captured_minor_units"),
    sa.Column("collectable", sa.Boolean, nullable=False),
    _instant("voided_at", nullable=True),
)

payments = sa.Table(
    "payments",
    metadata,
    _key("tenant_id"),
    _key("payment_id"),
    _text("invoice_id"),
    _text("invoice_number"),
    _text("customer_id"),
    _text("currency"),
    _minor_units("amount_minor_units"),
    _text("state"),
    _instant("created_at"),
    _instant("next_attempt_at", nullable=True),
    sa.Column("attempt_count", sa.Integer, nullable=False),
    sa.Column("soft_declines", sa.Integer, nullable=False),
    _text("trace_parent"),
)

attempts = sa.Table(
    "payment_attempts",
    metadata,
    _key("tenant_id"),
    _key("payment_id"),
    _number_key("number"),
    _text("idempotency_key"),
    _text("customer_id"),
    _text("gateway_token"),
    _text("state"),
    _instant("created_at"),
    _instant("tried_at"),
    _text("gateway_charge_id"),
    _text("decline_code"),
    sa.Column("asks", sa.Integer, nullable=False),
    _text("settled_by"),
)

# Who has settled an attempt, and why; an answer of the gateway leaves none.
manual_settlements = sa.Table(
    "manual_settlements",
    metadata,
    _key("tenant_id"),
    _key("payment_id"),
    _number_key("attempt_number"),
    _text("outcome"),
    _text("gateway_reference"),
    _text("reason"),
    _text("actor"),
    _text("request_id"),
    _instant("settled_at"),
)

methods = sa.Table(
    "payment_methods",
    metadata,
    _key("tenant_id"),
    _key("payment_method_id"),
    _text("customer_id"),
    _text("gateway_token"),
    _instant("created_at"),
    sa.Column("current", sa.Boolean, nullable=False),
)

ledger_transactions = sa.Table(
    "ledger_transactions",
    metadata,
    _key("tenant_id"),
    _key("transaction_id"),
    sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
    _text("kind"),
    _text("invoice_id"),
    _instant("posted_at"),
)

ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    _key("tenant_id"),
    _key("transaction_id"),
    _number_key("entry"),
    _text("account"),
    _text("customer_id"),
    _text("currency"),
    _minor_units("amount_minor_units"),
)

tasks = sa.Table(
    "payment_tasks",
    metadata,
    _key("tenant_id"),
    _key("payment_id"),
    _text("kind"),
    _instant("due_at"),
    _instant("claimed_until", nullable=True),
)
