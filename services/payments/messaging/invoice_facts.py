"""Consumes billing's facts about invoices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC

from google.protobuf.message import DecodeError

from libs.messaging import Delivery, UnreadableMessage
from libs.money import Money
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.usecases.record_invoices import InvoiceFact, RecordInvoices
from steelyard.billing.v1 import events_pb2
from steelyard.common.v1 import money_pb2

DURABLE = "payments-invoice-collect"
ISSUED, VOIDED = "billing.invoice.issued.v1", "billing.invoice.voided.v1"


class InvoiceFactsConsumer:
    """Hands a fetched batch to the use case as one transaction."""

    def __init__(self, *, record_invoices: RecordInvoices) -> None:
        self._record_invoices = record_invoices

    async def __call__(self, messages: Sequence[Delivery]) -> None:
        """:raises UnreadableMessage: if a message is no fact about an invoice"""
        await self._record_invoices([_fact(message) for message in messages])


def _fact(message: Delivery) -> InvoiceFact:
    if not message.msg_id:
        raise UnreadableMessage("no Nats-Msg-Id header")
    try:
        if message.subject == ISSUED:
            issued = events_pb2.InvoiceIssued.FromString(message.data)
            return InvoiceFact(message.msg_id, message.data, _issued(issued, message.headers))
        voided = events_pb2.InvoiceVoided.FromString(message.data)
        return InvoiceFact(message.msg_id, message.data, _voided(voided))
    except (DecodeError, ValueError) as error:
        raise UnreadableMessage(f"{message.msg_id} on {message.subject}: {error}") from error


def _issued(fact: events_pb2.InvoiceIssued, headers: Mapping[str, str]) -> IssuedInvoice:
    return IssuedInvoice(
        tenant_id=fact.tenant_id,
        invoice_id=fact.invoice_id,
        invoice_number=fact.invoice_number,
        customer_id=fact.customer_id,
        total=_money(fact.total),
        issued_at=fact.issue_time.ToDatetime(UTC),
        # The fact was written in the invoice's trace; the attempt goes on with it.
        trace_parent=headers.get("traceparent", ""),
    )


def _voided(fact: events_pb2.InvoiceVoided) -> VoidedInvoice:
    return VoidedInvoice(fact.tenant_id, fact.invoice_id, _money(fact.total), fact.void_time.ToDatetime(UTC))


def _money(value: money_pb2.Money) -> Money:
    return Money(value.minor_units, value.currency)
