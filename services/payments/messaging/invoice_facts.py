"""Consumes billing's facts about invoices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC

from google.protobuf.message import DecodeError

from libs.ids import check_tenant_id
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
    try:
        fact = _read(message)
    except (DecodeError, ValueError) as error:
        raise UnreadableMessage(f"{message.msg_id} on {message.subject}: {error}") from error
    # The id guards the effect and the body says for whom it is: they must agree.
    if check_tenant_id(fact.tenant_id) or not message.msg_id.startswith(f"{fact.tenant_id}:"):
        raise UnreadableMessage(f"message id {message.msg_id!r} does not begin with the tenant {fact.tenant_id!r}")
    return InvoiceFact(message.msg_id, message.data, fact)


def _read(message: Delivery) -> IssuedInvoice | VoidedInvoice:
    if message.subject == ISSUED:
        return _issued(events_pb2.InvoiceIssued.FromString(message.data), message.headers)
    return _voided(events_pb2.InvoiceVoided.FromString(message.data))


def _issued(fact: events_pb2.InvoiceIssued, headers: Mapping[str, str]) -> IssuedInvoice:
    if not fact.invoice_id or not fact.customer_id:
        raise ValueError("no invoice or no customer")
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
    if not fact.invoice_id:
        raise ValueError("no invoice")
    return VoidedInvoice(fact.tenant_id, fact.invoice_id, _money(fact.total), fact.void_time.ToDatetime(UTC))


def _money(value: money_pb2.Money) -> Money:
    return Money(value.minor_units, value.currency)
