"""Check payments against billing, the gateway's own record, and the ledger. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.periods import Period
from services.payments.domain.payment import AttemptState, PaymentState
from services.payments.usecases.ports import BilledInvoice, Billing, Gateway, UnitOfWork

MAX_DIFFERENCES = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which two sides disagree; empty text means missing."""

    subject: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Check:
    """One equation with both sides as found."""

    name: str
    left: str
    right: str
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return self.left == self.right and not self.differences


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compares by ids and amounts, never by times."""

    unit_of_work: UnitOfWork
    billing: Billing
    gateway: Gateway

    async def __call__(self, tenant_id: str, period: Period | None) -> list[Check]:
        """Return every check that was made.

        :raises Unavailable: if billing does not answer
        """
        billed = await self.billing.invoices(tenant_id, period)
        owed = [invoice for invoice in billed if invoice.total.minor_units > 0]
        invoice_ids = [invoice.invoice_id for invoice in owed]
        async with self.unit_of_work(tenant_id) as work:
            payments = await work.payments.all_of_invoices(tenant_id, invoice_ids)
            summary = await work.ledger.summary(tenant_id)
            expected = set(_expected_transactions(owed))
            posted = await work.ledger.ids_of(tenant_id, sorted(expected))
        captures = await self.gateway.captures(tenant_id, invoice_ids)
        collected = Counter[str]()
        for payment, _ in payments:
            if payment.state is PaymentState.SUCCEEDED:
                collected[payment.invoice_id] += payment.amount.minor_units
        live = {p.invoice_id: str(p.amount.minor_units) for p, _ in payments if p.state is not PaymentState.CANCELED}
        return [
            _compare(
                "invoices = payments",
                {i.invoice_id: str(i.total.minor_units) for i in owed if i.state != "void"},
                live,
            ),
            _compare(
                "paid invoices = captured payments",
                {i.invoice_id: str(i.total.minor_units) for i in owed if i.state == "paid"},
                {invoice_id: str(minor) for invoice_id, minor in collected.items()},
            ),
            _compare(
                "captured attempts = gateway's record",
                {
                    attempt.gateway_charge_id: str(payment.amount.minor_units)
                    for payment, attempts in payments
                    for attempt in attempts
                    if attempt.state is AttemptState.SUCCEEDED
                },
                {capture.charge_id: str(capture.amount.minor_units) for capture in captures},
            ),
            _compare("facts = ledger transactions", dict.fromkeys(expected, "1"), dict.fromkeys(posted, "1")),
            _compare("ledger adds up to zero", {}, dict.fromkeys(summary.unbalanced, "off")),
        ]


def _expected_transactions(owed: Iterable[BilledInvoice]) -> Iterable[str]:
    for invoice in owed:
        yield f"invoice_issued:{invoice.invoice_id}"
        if invoice.state == "paid":
            yield f"payment_captured:{invoice.invoice_id}"
        if invoice.state == "void":
            yield f"invoice_voided:{invoice.invoice_id}"


def _compare(name: str, left: Mapping[str, str], right: Mapping[str, str]) -> Check:
    differences = [
        Difference(key, left.get(key, ""), right.get(key, ""))
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]
    return Check(name, _total(left), _total(right), tuple(differences[:MAX_DIFFERENCES]))


def _total(side: Mapping[str, str]) -> str:
    return str(sum(int(value) for value in side.values() if value.lstrip("-").isdigit()))
