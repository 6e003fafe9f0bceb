"""Invoices: draft, then issued, then paid or void. Once issued, only the state changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from libs.errors import FailedPrecondition, NotFound
from libs.money import Money, round_to_minor
from libs.periods import Period
from services.billing.domain.charge import Charge, ChargePart


class InvoiceNotFound(NotFound):
    reason = "INVOICE_NOT_FOUND"


class InvoiceNotIssued(FailedPrecondition):
    """Only an issued invoice, neither paid nor void, can be paid or voided."""

    reason = "INVOICE_NOT_ISSUED"


class InvoiceNotDraft(FailedPrecondition):
    """Only a draft can be issued."""

    reason = "INVOICE_NOT_DRAFT"


class PaymentNotCancelable(FailedPrecondition):
    """Money is captured or under way for the invoice, or nobody knows: it cannot be voided now."""

    reason = "PAYMENT_NOT_CANCELABLE"


class LineRefused(FailedPrecondition):
    """A charge cannot stand on the invoice: it contradicts the subscription, or no message can hold it."""

    reason = "CHARGE_REFUSED"


# An int64 on the wire, a bigint in the database.
MINOR_UNITS_MAX = 2**63 - 1


class InvoiceState(StrEnum):
    DRAFT = "draft"
    ISSUED = "issued"
    PAID = "paid"
    VOID = "void"


class InvoiceKind(StrEnum):
    """What a document is for; the key of a billed period names it, so that other documents have a place."""

    PERIOD = "period"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A charge, rounded once: `amount` is `exact_amount` in minor units."""

    position: int
    price_id: str
    display_name: str
    meter_id: str
    quantity: Decimal
    amount: Money
    exact_amount: Decimal
    parts: tuple[ChargePart, ...]
    rate_card_id: str
    rate_card_version: int
    charge_version: int
    trace_parent: str


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a customer owes for a billing period; instants are on the tenant's clock.

    `total` is the sum of the lines. A draft has no number, and its lines are those it would have now.
    """

    invoice_id: str
    customer_id: str
    subscription_id: str
    period: Period
    ordinal: int
    currency: str
    state: InvoiceState = InvoiceState.DRAFT
    invoice_number: str = ""
    lines: tuple[InvoiceLine, ...] = ()
    total_minor: int = 0
    issued_at: datetime | None = None
    paid_at: datetime | None = None
    payment_id: str = ""
    voided_at: datetime | None = None
    void_reason: str = ""

    @property
    def total(self) -> Money:
        return Money(self.total_minor, self.currency)

    def with_lines(self, lines: Sequence[InvoiceLine]) -> Invoice:
        """The draft with these lines and their sum.

        :raises LineRefused: if the sum is too large to be sent
        :raises InvoiceNotDraft: if it is issued: then lines are final
        """
        self._require_draft()
        total = sum((line.amount for line in lines), Money(0, self.currency))
        if abs(total.minor_units) > MINOR_UNITS_MAX:
            raise LineRefused(f"the total of {total} does not fit into a message")
        return replace(self, lines=tuple(lines), total_minor=total.minor_units)

    def issue(self, *, invoice_number: str, now: datetime) -> Invoice:
        """Issued under a number. With nothing to collect it is paid at once, because no payment will ever come.

        :raises InvoiceNotDraft: if it was issued before
        """
        self._require_draft()
        issued = replace(self, state=InvoiceState.ISSUED, invoice_number=invoice_number, issued_at=now)
        return issued.pay(now=now) if issued.total_minor <= 0 else issued

    def pay(self, *, now: datetime, payment_id: str = "") -> Invoice:
        """Paid by a payment, or by none if there is nothing to collect.

        :raises InvoiceNotIssued: if it is a draft, paid or void
        """
        self.require_issued()
        return replace(self, state=InvoiceState.PAID, paid_at=now, payment_id=payment_id)

    def void(self, *, reason: str, now: datetime) -> Invoice:
        """:raises InvoiceNotIssued: if it is a draft, paid or void"""
        self.require_issued()
        return replace(self, state=InvoiceState.VOID, voided_at=now, void_reason=reason)

    def require_issued(self) -> None:
        """:raises InvoiceNotIssued: if it is a draft, paid or void"""
        if self.state is not InvoiceState.ISSUED:
            message = f"invoice {self.invoice_id} is {self.state}"
            raise InvoiceNotIssued(message, invoiceId=self.invoice_id, state=self.state)

    def _require_draft(self) -> None:
        if self.state is not InvoiceState.DRAFT:
            message = f"invoice {self.invoice_id} is {self.state}"
            raise InvoiceNotDraft(message, invoiceId=self.invoice_id, state=self.state)


def lines_from_charges(charges: Sequence[Charge], currency: str) -> list[InvoiceLine]:
    """Round each charge once, in the order of the card.

    :raises LineRefused: if a charge is in another currency than the subscription, or too large to be sent
    """
    return [
        _line(charge, currency) for charge in sorted(charges, key=lambda charge: (charge.position, charge.price_id))
    ]


def _line(charge: Charge, currency: str) -> InvoiceLine:
    if charge.currency != currency:
        raise LineRefused(f"charge {charge.price_id} is in {charge.currency}, the subscription in {currency}")
    amount = round_to_minor(charge.amount, currency, charge.rounding_mode)
    if abs(amount.minor_units) > MINOR_UNITS_MAX:
        raise LineRefused(f"charge {charge.price_id} of {amount} does not fit into a message")
    return InvoiceLine(
        position=charge.position,
        price_id=charge.price_id,
        display_name=charge.display_name,
        meter_id=charge.meter_id,
        quantity=charge.quantity,
        amount=amount,
        exact_amount=charge.amount,
        parts=charge.parts,
        rate_card_id=charge.rate_card_id,
        rate_card_version=charge.rate_card_version,
        charge_version=charge.version,
        trace_parent=charge.trace_parent,
    )
