"""Cancel the payment of an invoice, so that billing may void it."""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from libs.errors import InvalidInput, Violation
from services.payments.domain.payment import Payment, PaymentState
from services.payments.usecases.ports import UnitOfWork
from services.payments.usecases.request import Request, request_id_violations


@dataclass(frozen=True, slots=True)
class CancelPayment:
    """Refuses when money moved or may have; forbids collection when there is no payment yet."""

    unit_of_work: UnitOfWork
    clock: Clock

    async def __call__(self, *, tenant_id: str, request_id: str, invoice_id: str) -> Payment | None:
        """Cancel and return the payment; None if there was none.

        :raises PaymentNotCancelable: if it is captured, processing or unknown; metadata "state"
        :raises InvalidInput: naming every field at fault
        """
        violations = list(request_id_violations(request_id))
        if not invoice_id:
            violations.append(Violation("invoice_id", "REQUIRED", "must name an invoice"))
        if violations:
            raise InvalidInput(violations)
        request = Request.of("CancelPayment", request_id, invoice_id)
        async with self.unit_of_work(tenant_id) as work:
            # The result is the state of the invoice's payment, which never leaves "canceled": a repetition finds it.
            await request.claim(work, tenant_id, invoice_id, self.clock())
            await work.invoices.forbid(tenant_id, invoice_id)
            payment = await work.payments.lock_of_invoice(tenant_id, invoice_id)
            if payment is None or payment.state is PaymentState.CANCELED:
                return payment
            canceled = payment.cancel()
            await work.payments.save([canceled])
            await work.tasks.remove([(tenant_id, canceled.payment_id)])
        return canceled
