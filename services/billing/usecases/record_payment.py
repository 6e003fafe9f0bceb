"""Mark invoices as paid."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.events import CapturedPayment, InvoicePaid
from services.billing.domain.invoice import Invoice, InvoiceNotFound, InvoiceState
from services.billing.usecases.ports import Work


class PaymentMismatch(Exception):
    """Money was captured that the invoice did not ask for: somebody has to look."""


async def record_payments(work: Work, payments: Sequence[CapturedPayment]) -> None:
    """Mark the invoices as paid, in the transaction that guards the facts against redelivery.

    A fact that was recorded before (the guard forgets after a while, the invoice does not) changes nothing.

    :raises PaymentMismatch: if an invoice is not waiting for this amount
    :raises InvoiceNotFound: if there is no such invoice
    """
    invoices = await work.invoices.lock_all([payment.invoice_id for payment in payments])
    paid: dict[str, Invoice] = {}
    for payment in payments:
        invoice = paid.get(payment.invoice_id) or invoices.get(payment.invoice_id)
        if invoice is None:
            raise InvoiceNotFound(f"no invoice {payment.invoice_id}", invoice=payment.invoice_id)
        if invoice.state is InvoiceState.PAID and invoice.payment_id == payment.payment_id:
            continue
        if invoice.state is not InvoiceState.ISSUED or invoice.total != payment.amount:
            raise PaymentMismatch(
                f"payment {payment.payment_id} captured {payment.amount} for invoice {invoice.invoice_id}, "
                f"which is {invoice.state} over {invoice.total}"
            )
        paid[payment.invoice_id] = invoice.pay(now=payment.captured_at, payment_id=payment.payment_id)
    await work.invoices.save_states(list(paid.values()))
    await work.announce([InvoicePaid(invoice) for invoice in paid.values()])
