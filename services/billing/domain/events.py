"""Facts about invoices that other services act on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from libs.money import Money
from services.billing.domain.invoice import Invoice


@dataclass(frozen=True, slots=True)
class InvoiceIssued:
    """An invoice became final. `trace_parents` are the traces behind it; the fact continues the first one."""

    invoice: Invoice
    trace_parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InvoiceVoided:
    invoice: Invoice


@dataclass(frozen=True, slots=True)
class InvoicePaid:
    invoice: Invoice


InvoiceFact = InvoiceIssued | InvoiceVoided | InvoicePaid


@dataclass(frozen=True, slots=True)
class CapturedPayment:
    """Payments' fact that an invoice's payment was captured; `captured_at` on the tenant's clock."""

    payment_id: str
    invoice_id: str
    amount: Money
    captured_at: datetime
