"""Check payments against billing, the gateway's own record, and the ledger. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.periods import Period
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.gateway import GatewayCharge
from services.payments.domain.payment import Payment, PaymentState
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
    """Compares by ids and amounts, never by times.

    Without a period everything that payments, the gateway and the ledger have is compared, so that also what belongs
    to no invoice is named. The sides are read one after the other: what is being paid meanwhile may show.
    """

    unit_of_work: UnitOfWork
    billing: Billing
    gateway: Gateway

    async def __call__(self, tenant_id: str, period: Period | None) -> list[Check]:
        """Return every check that was made.

        :raises Unavailable: if billing does not answer
        """
        billed = await self.billing.invoices(tenant_id, period)
        owed = [invoice for invoice in billed if invoice.total.minor_units > 0]
        chosen = None if period is None else [invoice.invoice_id for invoice in owed]
        async with self.unit_of_work(tenant_id) as work:
            payments = await work.payments.all_of_invoices(tenant_id, chosen)
            debits = await work.ledger.debits(tenant_id, chosen)
            summary = await work.ledger.summary(tenant_id)
        captures = await self.gateway.captures(tenant_id, chosen)
        return [
            *_payment_checks(owed, [payment for payment, _ in payments]),
            _compare("captured attempts = gateway's record", _captured(payments), _by_charge(captures)),
            _compare("facts = ledger transactions", _expected_transactions(owed), debits),
            _compare("unbalanced ledger transactions = 0", {}, dict.fromkeys(summary.unbalanced, 1)),
        ]


def _payment_checks(owed: Iterable[BilledInvoice], payments: Iterable[Payment]) -> list[Check]:
    live = [payment for payment in payments if payment.state is not PaymentState.CANCELED]
    succeeded = [payment for payment in live if payment.state is PaymentState.SUCCEEDED]
    return [
        _compare(
            "invoices = payments",
            {invoice.invoice_id: invoice.total.minor_units for invoice in owed if invoice.state != "void"},
            {payment.invoice_id: payment.amount.minor_units for payment in live},
        ),
        _compare(
            "paid invoices = captured payments",
            {invoice.invoice_id: invoice.total.minor_units for invoice in owed if invoice.state == "paid"},
            {payment.invoice_id: payment.amount.minor_units for payment in succeeded},
        ),
    ]


def _captured(payments: Iterable[tuple[Payment, list[Attempt]]]) -> dict[str, int]:
    return {
        f"{payment.invoice_id}, charge {attempt.gateway_charge_id}": payment.amount.minor_units
        for payment, attempts in payments
        for attempt in attempts
        if attempt.state is AttemptState.SUCCEEDED
    }


def _by_charge(captures: Iterable[GatewayCharge]) -> dict[str, int]:
    return {f"{capture.reference}, charge {capture.charge_id}": capture.amount.minor_units for capture in captures}


def _expected_transactions(owed: Iterable[BilledInvoice]) -> dict[str, int]:
    expected: dict[str, int] = {}
    for invoice in owed:
        expected[f"invoice_issued:{invoice.invoice_id}"] = invoice.total.minor_units
        if invoice.state == "paid":
            expected[f"payment_captured:{invoice.invoice_id}"] = invoice.total.minor_units
        if invoice.state == "void":
            expected[f"invoice_voided:{invoice.invoice_id}"] = invoice.total.minor_units
    return expected


def _compare(name: str, left: Mapping[str, int], right: Mapping[str, int]) -> Check:
    differences = [
        Difference(key, str(left.get(key, "")), str(right.get(key, "")))
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]
    return Check(name, str(sum(left.values())), str(sum(right.values())), tuple(differences[:MAX_DIFFERENCES]))
