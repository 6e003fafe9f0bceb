"""What payments hears from billing, and what it tells the world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from libs.money import Money
from services.payments.domain.attempt import Attempt
from services.payments.domain.payment import Payment


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """An invoice became final. `issued_at` is on the tenant's clock."""

    tenant_id: str
    invoice_id: str
    invoice_number: str
    customer_id: str
    total: Money
    issued_at: datetime
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class VoidedInvoice:
    """An issued invoice was cancelled. `voided_at` is on the tenant's clock."""

    tenant_id: str
    invoice_id: str
    total: Money
    voided_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentSucceeded:
    """The money of an invoice was captured."""

    payment: Payment
    captured_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentFailed:
    """A try was declined; the payment says whether another one is scheduled."""

    payment: Payment
    attempt: Attempt
    failed_at: datetime


PaymentFact = PaymentSucceeded | PaymentFailed
