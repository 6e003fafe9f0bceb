"""Cancel an issued invoice."""

from __future__ import annotations

from libs.clock import Clock
from libs.errors import Violation
from libs.ids import check_text
from services.billing.domain.charge import PeriodKey
from services.billing.domain.events import InvoiceVoided
from services.billing.domain.invoice import Invoice, InvoiceState
from services.billing.usecases.ports import Payments, UnitOfWork
from services.billing.usecases.request import Request, require_valid

REASON_LENGTH_MAX = 500


class VoidInvoice:
    """Payments gives up the payment first, so money can no longer arrive for an invoice that is void.

    With `reissue` the period is due again, and the next billing run invoices it under a new number.

    :raises InvalidInput, InvoiceNotFound, InvoiceNotIssued, PaymentNotCancelable, RequestIdReused, Unavailable: and
        the invoice stands
    """

    def __init__(self, *, unit_of_work: UnitOfWork, payments: Payments, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._payments = payments
        self._clock = clock

    async def __call__(
        self, *, request: Request, tenant_id: str, invoice_id: str, reason: str, reissue: bool
    ) -> Invoice:
        require_valid(request.request_id, _violations(invoice_id, reason))
        async with self._unit_of_work(tenant_id) as work:
            invoice = await work.invoices.get(invoice_id)
        # A void invoice may be a repetition: the request log below tells. Anything else need not bother payments.
        if invoice.state is not InvoiceState.VOID:
            invoice.require_issued()
            await self._payments.cancel_payment(tenant_id, request.request_id, invoice.invoice_id)
        return await self._void(request, tenant_id, invoice, reason, reissue)

    async def _void(self, request: Request, tenant_id: str, seen: Invoice, reason: str, reissue: bool) -> Invoice:
        key = PeriodKey(seen.subscription_id, seen.period.start)
        real_now = self._clock()
        async with self._unit_of_work(tenant_id) as work:
            await work.periods.lock(key)
            invoice = await work.invoices.lock(seen.invoice_id)
            if await request.claim(work, invoice.invoice_id, real_now) is not None:
                return invoice
            invoice = invoice.void(reason=reason, now=(await work.tenants.clock()).now(real_now))
            await work.invoices.save_states([invoice])
            await work.announce([InvoiceVoided(invoice)])
            if reissue:
                await work.periods.reopen(key, real_now)
            return invoice


def _violations(invoice_id: str, reason: str) -> list[Violation]:
    found = [check_text(invoice_id, "invoice_id", 64), check_text(reason, "reason", REASON_LENGTH_MAX)]
    return [violation for violation in found if violation]
