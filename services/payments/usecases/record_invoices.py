"""Take note of issued and voided invoices: payments, ledger, and what is due, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import new_id
from services.payments.domain import ledger
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.domain.payment import Payment, PaymentNotCancelable
from services.payments.usecases.ports import InvoiceKey, Task, TaskKind, UnitOfWork, Work

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InvoiceFact:
    """A fact of billing with the id and the bytes that it came with."""

    event_id: str
    body: bytes
    fact: IssuedInvoice | VoidedInvoice


class RecordInvoices:
    """Handles a batch of facts, each once, however often and in whatever order they are delivered."""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, facts: Sequence[InvoiceFact]) -> int:
        """Record the facts and return how many were news."""
        if not facts:
            return 0
        now = self._clock()
        async with self._unit_of_work(*{item.fact.tenant_id for item in facts}) as work:
            keys = [(item.fact.tenant_id, item.event_id, item.body) for item in facts]
            first = await work.first_deliveries(keys, now)
            # Nothing is owed for an invoice over nothing: it has no payment, and nothing to post.
            fresh = {item.event_id: item.fact for item in facts if item.event_id in first}
            owed = [fact for fact in fresh.values() if fact.total.minor_units > 0]
            await _issued(work, [fact for fact in owed if isinstance(fact, IssuedInvoice)])
            await _voided(work, [fact for fact in owed if isinstance(fact, VoidedInvoice)])
        return len(fresh)


async def _issued(work: Work, invoices: Sequence[IssuedInvoice]) -> None:
    forbidden = await work.invoices.add(invoices)
    payments: list[Payment] = []
    postings = [ledger.invoice_issued(i.tenant_id, i.invoice_id, i.customer_id, i.total, i.issued_at) for i in invoices]
    for invoice in invoices:
        key = (invoice.tenant_id, invoice.invoice_id)
        payment = _payment_for(invoice)
        payments.append(payment.cancel() if key in forbidden else payment)
        # The fact that it was voided has overtaken the one that it was issued.
        if (voided_at := forbidden.get(key)) is not None:
            postings.append(ledger.invoice_voided(*key, invoice.customer_id, invoice.total, voided_at))
    await work.payments.add(payments)
    await work.ledger.post(postings)
    await work.tasks.put(
        {
            (payment.tenant_id, payment.payment_id): Task(TaskKind.COLLECT, payment.next_attempt_at)
            for payment in payments
            if payment.next_attempt_at is not None
        }
    )


async def _voided(work: Work, invoices: Sequence[VoidedInvoice]) -> None:
    customers = await work.invoices.void(invoices)
    postings = [
        ledger.invoice_voided(i.tenant_id, i.invoice_id, customers[i.tenant_id, i.invoice_id], i.total, i.voided_at)
        for i in invoices
        if (i.tenant_id, i.invoice_id) in customers
    ]
    await work.ledger.post(postings)
    await _give_up(work, list(customers))


async def _give_up(work: Work, voided: Sequence[InvoiceKey]) -> None:
    """Make sure that void invoices are not collected, although billing has them cancelled before it voids."""
    canceled: list[Payment] = []
    for payment in await work.payments.lock_live(voided):
        try:
            canceled.append(payment.cancel())
        except PaymentNotCancelable:
            # What was captured is then owed to the customer: the ledger says so, and reconciliation names the invoice.
            invoice_id, tenant_id = payment.invoice_id, payment.tenant_id
            _logger.critical("invoice %s of %s was voided although it is being paid", invoice_id, tenant_id)
    await work.payments.save(canceled)
    await work.tasks.remove([payment.key for payment in canceled])


def _payment_for(invoice: IssuedInvoice) -> Payment:
    return Payment.for_invoice(
        tenant_id=invoice.tenant_id,
        payment_id=new_id("pay"),
        invoice_id=invoice.invoice_id,
        invoice_number=invoice.invoice_number,
        customer_id=invoice.customer_id,
        amount=invoice.total,
        issued_at=invoice.issued_at,
        trace_parent=invoice.trace_parent,
    )
