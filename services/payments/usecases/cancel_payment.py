"""Cancel the payment of an invoice, so that billing may void it."""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import check_text
from services.payments.domain.attempt import Attempt
from services.payments.domain.payment import Payment, PaymentState
from services.payments.usecases.ports import UnitOfWork
from services.payments.usecases.request import Request, require_valid

MAX_INVOICE_ID = 64


@dataclass(frozen=True, slots=True)
class CancelPayment:
    """Refuses when money moved or may have; forbids collection when there is no payment yet."""

    unit_of_work: UnitOfWork
    clock: Clock

    async def __call__(
        self, *, tenant_id: str, request_id: str, invoice_id: str
    ) -> tuple[Payment, list[Attempt]] | None:
        """Cancel and return the payment; None if there was none.

        :raises PaymentNotCancelable: if it is captured, processing or unknown; metadata "state"
        :raises InvalidInput: naming every field at fault
        :raises RequestIdReused: if the request id came for another invoice before
        """
        require_valid(request_id, check_text(invoice_id, "invoice_id", MAX_INVOICE_ID))
        request = Request.of("CancelPayment", request_id, invoice_id)
        async with self.unit_of_work(tenant_id) as work:
            # The result is the state of the invoice's payment, which never leaves "canceled": a repetition finds it.
            await request.claim(work, tenant_id, invoice_id, self.clock())
            await work.invoices.forbid(tenant_id, invoice_id)
            payment = await work.payments.lock_of_invoice(tenant_id, invoice_id)
            if payment is None:
                return None
            if payment.state is not PaymentState.CANCELED:
                await work.payments.save([payment.cancel()])
                await work.tasks.remove([(tenant_id, payment.payment_id)])
            return await work.payments.get(tenant_id, payment.payment_id)
