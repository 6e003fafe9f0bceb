"""What checkers judge by: the history, and what is stored in the end, read past every service as superuser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg

from tests.faults.driver.history import Record
from tests.faults.driver.workload import START, digest, payload

Windows = Mapping[tuple[str, str, str, int], tuple[Decimal, int]]
"""Value and number of events by (tenant, meter, customer, first second)."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LogEntry:
    """A row of the event log: its id, and the digest of its payload as the history has it."""

    tenant: str
    event_id: str
    digest: str


@dataclass(frozen=True)
class IngestState:
    """The log, its keys, the windows, and the counts of fates; `missing` are batches that ingest says were lost."""

    log: Sequence[LogEntry]
    keys: Sequence[tuple[str, str]]
    windows: Windows
    counters: Rows
    results: Rows
    missing: Sequence[tuple[str, str, int]]


@dataclass(frozen=True)
class RatingState:
    """Rating's copy of the windows, and the charges of the month."""

    windows: Windows
    charges: Rows


@dataclass(frozen=True)
class BillingState:
    """The invoices of the month with their lines; numbers are of all invoices of a tenant."""

    invoices: Rows
    lines: Rows
    numbers: Rows


@dataclass(frozen=True)
class PaymentsState:
    """What payments has stored, and the gateway's own record."""

    invoices: Rows
    attempts: Rows
    entries: Rows
    gateway: Rows


@dataclass(frozen=True)
class Evidence:
    """All of it; `billing` and `payments` are None if the month was not closed. `pending` is what had not come to rest
    in time, `reconciliations` what the services' own checks found, `unnamed` what the queue lost without a word."""

    records: Sequence[Record]
    tenants: Sequence[str]
    ingest: IngestState
    rating: RatingState
    billing: BillingState | None = None
    payments: PaymentsState | None = None
    pending: Sequence[str] = ()
    reconciliations: Sequence[str] = ()
    unnamed: Sequence[str] = ()


Checker = Callable[[Evidence], list[str]]
"""Returns what is wrong, each in words; nothing if all is well."""

_LOG = """
SELECT tenant_id, event_id, customer_id, event_time_ns, properties->>'input_tokens' AS input,
    properties->>'output_tokens' AS output
FROM events WHERE tenant_id = ANY ($1)
"""
_KEYS = "SELECT tenant_id, event_id FROM event_keys WHERE tenant_id = ANY ($1)"
_WINDOWS = """
SELECT tenant_id, meter_id, customer_id, extract(epoch FROM window_start)::bigint AS start_s, value, event_count
FROM usage_windows WHERE tenant_id = ANY ($1) AND event_count > 0
"""
_COUNTERS = """
SELECT tenant_id, sum(accepted_total)::bigint AS accepted, sum(rejected_total)::bigint AS refused,
    sum(recorded)::bigint AS recorded, sum(duplicate)::bigint AS duplicate, sum(conflict)::bigint AS conflict,
    sum(rejected)::bigint AS rejected
FROM acceptor_counters WHERE tenant_id = ANY ($1) GROUP BY tenant_id
"""
_RESULTS = """
SELECT tenant_id, sum(recorded)::bigint AS recorded, sum(duplicate)::bigint AS duplicate,
    sum(conflict)::bigint AS conflict, sum(rejected)::bigint AS rejected
FROM batch_results WHERE tenant_id = ANY ($1) GROUP BY tenant_id
"""
_MISSING = """
SELECT tenant_id, acceptor_epoch, batch_number FROM missing_batches WHERE tenant_id = ANY ($1)
"""
_CHARGES = """
SELECT c.tenant_id, p.customer_id, c.price_id, c.quantity, c.amount
FROM charges c JOIN billing_periods p USING (tenant_id, subscription_id, period_start)
WHERE c.tenant_id = ANY ($1) AND c.period_start = $2
"""
_INVOICES = """
SELECT tenant_id, invoice_id, customer_id, subscription_id, ordinal, state, currency, total_minor, number_value
FROM invoices WHERE tenant_id = ANY ($1) AND period_start = $2
"""
_NUMBERS = """
SELECT tenant_id, count(number_value) AS count, min(number_value) AS lowest, max(number_value) AS highest
FROM invoices WHERE tenant_id = ANY ($1) AND number_value IS NOT NULL GROUP BY tenant_id
"""
_LINES = """
SELECT tenant_id, invoice_id, price_id, quantity, amount_minor FROM invoice_lines WHERE tenant_id = ANY ($1)
"""
_PAYMENTS_INVOICES = """
SELECT tenant_id, invoice_id, total_minor_units AS total, captured_minor_units AS captured
FROM invoices WHERE tenant_id = ANY ($1)
"""
_ATTEMPTS = """
SELECT a.tenant_id, p.invoice_id, a.payment_id, a.number, a.idempotency_key, a.state, p.amount_minor_units AS amount
FROM payment_attempts a JOIN payments p USING (tenant_id, payment_id) WHERE a.tenant_id = ANY ($1)
"""
_ENTRIES = """
SELECT e.tenant_id, e.transaction_id, t.kind, t.invoice_id, e.account, e.customer_id, e.currency,
    e.amount_minor_units AS amount
FROM ledger_entries e JOIN ledger_transactions t USING (tenant_id, transaction_id) WHERE e.tenant_id = ANY ($1)
"""
_GATEWAY = """
SELECT tenant_id, reference AS invoice_id, idempotency_key, outcome, amount_minor_units AS amount
FROM sandbox_gateway_charges WHERE tenant_id = ANY ($1)
"""


async def read_ingest(connection: asyncpg.Connection, tenants: Sequence[str]) -> IngestState:
    """Read ingest's database."""
    return IngestState(
        log=[_log_entry(row) for row in await connection.fetch(_LOG, tenants)],
        keys=[(row["tenant_id"], row["event_id"]) for row in await connection.fetch(_KEYS, tenants)],
        windows=_windows(await connection.fetch(_WINDOWS, tenants)),
        counters=await connection.fetch(_COUNTERS, tenants),
        results=await connection.fetch(_RESULTS, tenants),
        missing=[tuple(row) for row in await connection.fetch(_MISSING, tenants)],
    )


async def read_rating(connection: asyncpg.Connection, tenants: Sequence[str]) -> RatingState:
    """Read rating's database."""
    return RatingState(
        windows=_windows(await connection.fetch(_WINDOWS, tenants)),
        charges=await connection.fetch(_CHARGES, tenants, START),
    )


async def read_billing(connection: asyncpg.Connection, tenants: Sequence[str]) -> BillingState:
    """Read billing's database."""
    return BillingState(
        invoices=await connection.fetch(_INVOICES, tenants, START),
        lines=await connection.fetch(_LINES, tenants),
        numbers=await connection.fetch(_NUMBERS, tenants),
    )


async def read_payments(connection: asyncpg.Connection, tenants: Sequence[str]) -> PaymentsState:
    """Read the database of payments, and the gateway's tables in it."""
    return PaymentsState(
        invoices=await connection.fetch(_PAYMENTS_INVOICES, tenants),
        attempts=await connection.fetch(_ATTEMPTS, tenants),
        entries=await connection.fetch(_ENTRIES, tenants),
        gateway=await connection.fetch(_GATEWAY, tenants),
    )


def _log_entry(row: Mapping[str, Any]) -> LogEntry:
    body = payload(row["customer_id"], row["event_time_ns"] // 1_000_000_000, row["input"], row["output"])
    return LogEntry(row["tenant_id"], row["event_id"], digest(body))


def _windows(rows: Rows) -> Windows:
    found: dict[tuple[str, str, str, int], tuple[Decimal, int]] = {}
    for row in rows:
        key = (row["tenant_id"], row["meter_id"], row["customer_id"], row["start_s"])
        value, events = found.get(key, (Decimal(0), 0))
        found[key] = (value + row["value"], events + row["event_count"])
    return found
