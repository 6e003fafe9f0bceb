"""The double-entry ledger: transactions whose entries add up to zero in each currency. Debits are positive.

Accounts: `receivable` (what customers owe; per customer), `revenue` (what was invoiced), `gateway` (money that the
gateway holds for the tenant).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from libs.money import Money
from services.payments.domain.payment import Payment

RECEIVABLE, REVENUE, GATEWAY = "receivable", "revenue", "gateway"


class UnbalancedTransaction(ValueError):
    """Entries do not add up to zero."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One side: debit positive, credit negative. `customer_id` only for receivables."""

    account: str
    amount: Money
    customer_id: str = ""


@dataclass(frozen=True, slots=True)
class LedgerTransaction:
    """A balanced set of entries. The id is derived from the fact that caused it, so that the fact posts once.

    :raises UnbalancedTransaction: if the entries do not add up to zero in each currency
    """

    tenant_id: str
    transaction_id: str
    kind: str
    invoice_id: str
    entries: tuple[LedgerEntry, ...]
    posted_at: datetime

    def __post_init__(self) -> None:
        sums: dict[str, int] = defaultdict(int)
        for entry in self.entries:
            sums[entry.amount.currency] += entry.amount.minor_units
        if not self.entries or any(sums.values()):
            raise UnbalancedTransaction(f"{self.transaction_id} is off by {dict(sums)}")


def invoice_issued(
    tenant_id: str, invoice_id: str, customer_id: str, total: Money, posted_at: datetime
) -> LedgerTransaction:
    """The customer owes what was invoiced."""
    return _move(tenant_id, "invoice_issued", invoice_id, total, posted_at, (RECEIVABLE, customer_id), (REVENUE, ""))


def invoice_voided(
    tenant_id: str, invoice_id: str, customer_id: str, total: Money, posted_at: datetime
) -> LedgerTransaction:
    """The customer does not owe it any more."""
    return _move(tenant_id, "invoice_voided", invoice_id, total, posted_at, (REVENUE, ""), (RECEIVABLE, customer_id))


def payment_captured(payment: Payment, posted_at: datetime) -> LedgerTransaction:
    """The gateway holds the money, and the customer does not owe it any more."""
    debit, credit = (GATEWAY, ""), (RECEIVABLE, payment.customer_id)
    tenant_id, invoice_id = payment.tenant_id, payment.invoice_id
    return _move(tenant_id, "payment_captured", invoice_id, payment.amount, posted_at, debit, credit)


def _move(
    tenant_id: str,
    kind: str,
    invoice_id: str,
    amount: Money,
    posted_at: datetime,
    debit: tuple[str, str],
    credit: tuple[str, str],
) -> LedgerTransaction:
    entries = (
        LedgerEntry(debit[0], amount, debit[1]),
        LedgerEntry(credit[0], Money(-amount.minor_units, amount.currency), credit[1]),
    )
    return LedgerTransaction(tenant_id, f"{kind}:{invoice_id}", kind, invoice_id, entries, posted_at)
