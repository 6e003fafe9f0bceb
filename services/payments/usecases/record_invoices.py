"""Take note of issued and voided invoices: payments, ledger, and what is due, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from libs.ids import new_id
from services.payments.domain import ledger
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.domain.payment import Payment
from services.payments.usecases.ports import Task, TaskKind, UnitOfWork, Work


@dataclass(frozen=True, slots=True)
class InvoiceFact:
    """A fact of billing with the id and the bytes that it came with."""

    event_id: str
    body: bytes
    fact: IssuedInvoice | VoidedInvoice


class RecordInvoices:
    """Handles a batch of facts, each once, however often it is delivered."""

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
            fresh = {item.event_id: item.fact for item in facts if item.event_id in first}
            await self._issued(work, [fact for fact in fresh.values() if isinstance(fact, IssuedInvoice)], now)
            await self._voided(work, [fact for fact in fresh.values() if isinstance(fact, VoidedInvoice)])
        return len(fresh)

    async def _issued(self, work: Work, invoices: Sequence[IssuedInvoice], now: datetime) -> None:
        owed = [invoice for invoice in invoices if invoice.total.minor_units > 0]
        forbidden = await work.invoices.add(owed)
        payments = []
        for invoice in owed:
            payment = Payment.for_invoice(
                tenant_id=invoice.tenant_id,
                payment_id=new_id("pay"),
                invoice_id=invoice.invoice_id,
                invoice_number=invoice.invoice_number,
                customer_id=invoice.customer_id,
                amount=invoice.total,
                issued_at=invoice.issued_at,
                trace_parent=invoice.trace_parent,
            )
            canceled = (invoice.tenant_id, invoice.invoice_id) in forbidden
            payments.append(payment.cancel() if canceled else payment)
        await work.payments.add(payments)
        await work.ledger.post(
            [ledger.invoice_issued(i.tenant_id, i.invoice_id, i.customer_id, i.total, i.issued_at) for i in owed]
        )
        await work.tasks.put(
            {
                (payment.tenant_id, payment.payment_id): Task(TaskKind.COLLECT, payment.next_attempt_at)
                for payment in payments
                if payment.next_attempt_at is not None
            }
        )

    async def _voided(self, work: Work, invoices: Sequence[VoidedInvoice]) -> None:
        owed = [invoice for invoice in invoices if invoice.total.minor_units > 0]
        customers = await work.invoices.customers(owed)
        missing = [i.invoice_id for i in owed if (i.tenant_id, i.invoice_id) not in customers]
        if missing:
            raise VoidBeforeIssue(f"voided before they were issued here: {', '.join(missing)}")
        await work.ledger.post(
            [
                ledger.invoice_voided(
                    i.tenant_id, i.invoice_id, customers[i.tenant_id, i.invoice_id], i.total, i.voided_at
                )
                for i in owed
            ]
        )


class VoidBeforeIssue(Exception):
    """The fact that an invoice was issued is still on its way: the messages are delivered again."""
