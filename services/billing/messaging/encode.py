"""Facts and state as they leave billing."""

from __future__ import annotations

from collections.abc import Sequence

from libs.outbox import Fact, StateValue
from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.events import InvoiceFact, InvoiceIssued, InvoicePaid
from services.billing.domain.invoice import Invoice
from services.billing.wire.billing_periods import billing_period_to_pb
from services.billing.wire.common import money_to_pb, period_to_pb, time_to_pb
from steelyard.billing.v1 import billing_period_pb2, events_pb2

BILLING_PERIOD_SUBJECT = "billing.billing_period.changed.v1"


def encode_fact(tenant_id: str, fact: InvoiceFact) -> Fact:
    """The message of a fact; its id is the same however often the fact is made."""
    invoice = fact.invoice
    if isinstance(fact, InvoiceIssued):
        return _fact(tenant_id, "issued", invoice, _issued(tenant_id, invoice).SerializeToString())
    total = money_to_pb(invoice.total)
    if isinstance(fact, InvoicePaid):
        paid_at = time_to_pb(invoice.paid_at)
        paid = events_pb2.InvoicePaid(tenant_id=tenant_id, invoice_id=invoice.invoice_id, total=total, pay_time=paid_at)
        return _fact(tenant_id, "paid", invoice, paid.SerializeToString())
    voided_at = time_to_pb(invoice.voided_at)
    voided = events_pb2.InvoiceVoided(
        tenant_id=tenant_id, invoice_id=invoice.invoice_id, total=total, void_time=voided_at
    )
    return _fact(tenant_id, "voided", invoice, voided.SerializeToString())


def pack_billing_periods(tenant_id: str, values: Sequence[StateValue]) -> bytes:
    """BillingPeriodsChanged of already encoded states: merging messages is concatenating their bytes."""
    changed = billing_period_pb2.BillingPeriodsChanged(tenant_id=tenant_id)
    for value in values:
        changed.billing_periods.add().ParseFromString(value.payload)
    return changed.SerializeToString()


def billing_period_value(item: BillingPeriod) -> StateValue:
    return StateValue(str(item.key), item.version, billing_period_to_pb(item).SerializeToString())


def _issued(tenant_id: str, invoice: Invoice) -> events_pb2.InvoiceIssued:
    return events_pb2.InvoiceIssued(
        tenant_id=tenant_id,
        invoice_id=invoice.invoice_id,
        invoice_number=invoice.invoice_number,
        customer_id=invoice.customer_id,
        total=money_to_pb(invoice.total),
        issue_time=time_to_pb(invoice.issued_at),
        period=period_to_pb(invoice.period),
    )


def _fact(tenant_id: str, verb: str, invoice: Invoice, payload: bytes) -> Fact:
    event_id = f"{tenant_id}:invoice-{verb}:{invoice.invoice_id}"
    return Fact(event_id, tenant_id, f"billing.invoice.{verb}.v1", payload)
