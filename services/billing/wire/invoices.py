"""Invoices as messages."""

from __future__ import annotations

from libs.money import plain
from services.billing.domain.invoice import Invoice, InvoiceLine, InvoiceState
from services.billing.wire.charges import part_to_pb
from services.billing.wire.common import money_to_pb, period_to_pb, time_to_pb
from steelyard.billing.v1 import invoice_pb2

STATES = {
    InvoiceState.DRAFT: invoice_pb2.INVOICE_STATE_DRAFT,
    InvoiceState.ISSUED: invoice_pb2.INVOICE_STATE_ISSUED,
    InvoiceState.PAID: invoice_pb2.INVOICE_STATE_PAID,
    InvoiceState.VOID: invoice_pb2.INVOICE_STATE_VOID,
}


def invoice_to_pb(invoice: Invoice) -> invoice_pb2.Invoice:
    return invoice_pb2.Invoice(
        invoice_id=invoice.invoice_id,
        invoice_number=invoice.invoice_number,
        customer_id=invoice.customer_id,
        subscription_id=invoice.subscription_id,
        period=period_to_pb(invoice.period),
        state=STATES[invoice.state],
        currency=invoice.currency,
        lines=map(line_to_pb, invoice.lines),
        total=money_to_pb(invoice.total),
        issue_time=time_to_pb(invoice.issued_at),
        pay_time=time_to_pb(invoice.paid_at),
        void_time=time_to_pb(invoice.voided_at),
        void_reason=invoice.void_reason,
        ordinal=invoice.ordinal,
    )


def line_to_pb(line: InvoiceLine) -> invoice_pb2.InvoiceLine:
    return invoice_pb2.InvoiceLine(
        price_id=line.price_id,
        display_name=line.display_name,
        meter_id=line.meter_id,
        quantity=plain(line.quantity),
        amount=money_to_pb(line.amount),
        exact_amount=plain(line.exact_amount),
        parts=map(part_to_pb, line.parts),
        rate_card_id=line.rate_card_id,
        rate_card_version=line.rate_card_version,
        charge_version=line.charge_version,
        trace_parent=line.trace_parent,
    )
