"""Mark an invoice as paid."""

from __future__ import annotations

from services.billing.domain.events import CapturedPayment, InvoicePaid
from services.billing.domain.invoice import InvoiceState
from services.billing.usecases.ports import Work


class PaymentMismatch(Exception):
    """Money was captured that the invoice did not ask for: somebody has to look."""


async def record_payment(work: Work, payment: CapturedPayment) -> None:
    """Mark the invoice as paid, in the transaction that guards the fact against redelivery.

    A fact that was recorded before (the guard forgets after a while, the invoice does not) changes nothing.

    :raises PaymentMismatch: if the invoice is not waiting for this amount
    :raises InvoiceNotFound: if there is no such invoice
    """
    invoice = await work.invoices.lock(payment.invoice_id)
    if invoice.state is InvoiceState.PAID and invoice.payment_id == payment.payment_id:
        return
    if invoice.state is not InvoiceState.ISSUED or invoice.total != payment.amount:
        raise PaymentMismatch(
            f"payment {payment.payment_id} captured {payment.amount} for invoice {invoice.invoice_id}, "
            f"which is {invoice.state} over {invoice.total}"
        )
    paid = invoice.pay(now=payment.captured_at, payment_id=payment.payment_id)
    await work.invoices.save_state(paid)
    await work.announce([InvoicePaid(paid)])
