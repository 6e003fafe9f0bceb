"""Look at invoices and at the progress of billing."""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from services.billing.domain.invoice import Invoice, InvoiceState
from services.billing.domain.watermark import Watermark
from services.billing.usecases.ports import Progress, UnitOfWork
from services.billing.usecases.preview_invoice import show_drafts


class GetInvoice:
    """By id or number. :raises InvoiceNotFound: if there is none"""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(self, *, tenant_id: str, invoice: str) -> Invoice:
        async with self._unit_of_work(tenant_id) as work:
            [found] = await show_drafts(work, [await work.invoices.get(invoice)])
            return found


class ListInvoices:
    """Newest first, `limit` of those older than an id; of one customer and state or of all."""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(
        self, *, tenant_id: str, customer_id: str, state: InvoiceState | None, before: str, limit: int
    ) -> list[Invoice]:
        async with self._unit_of_work(tenant_id) as work:
            return await show_drafts(work, await work.invoices.page(customer_id, state, before, limit))


@dataclass(frozen=True, slots=True)
class BillingProgress:
    progress: Progress
    watermark: Watermark


class GetBillingProgress:
    """What is still due at the tenant's now, and what holds it."""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str) -> BillingProgress:
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(self._clock())
            return BillingProgress(await work.progress(now), await work.watermark())
