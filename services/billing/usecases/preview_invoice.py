"""Show invoices that are not issued, as they would be with the charges of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.invoice import Invoice, InvoiceState, lines_from_charges
from services.billing.domain.subscription import Subscription
from services.billing.usecases.ports import UnitOfWork, Work

SUBSCRIPTIONS_MAX = 1_000


class PreviewInvoice:
    """The invoice of the period that holds `at`, by default the current one.

    :raises SubscriptionNotFound, BillingPeriodNotFound: if there is no such period
    """

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, subscription_id: str, at: datetime | None) -> Invoice:
        async with self._unit_of_work(tenant_id) as work:
            subscription = await work.subscriptions.get(subscription_id)
            now = (await work.tenants.clock()).now(self._clock())
            period = subscription.current_period(now) if at is None else subscription.period_at(at)
            ordinal = await work.periods.ordinal(PeriodKey(subscription_id, period.start))
            [preview] = await with_current_lines(work, [_draft(subscription, period, ordinal)])
            return preview


@dataclass(frozen=True, slots=True)
class CurrentSpend:
    """What open billing periods would be invoiced now; `rated_through` (real time) says how fresh that is."""

    invoices: tuple[Invoice, ...]
    rated_through: datetime | None


class GetCurrentSpend:
    """One entry per subscription of a customer with an open billing period. :raises CustomerNotFound: if unknown"""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, customer_id: str) -> CurrentSpend:
        async with self._unit_of_work(tenant_id) as work:
            await work.customers.get(customer_id)
            now = (await work.tenants.clock()).now(self._clock())
            # Before the charges: it must not promise more than they contain.
            watermark = await work.watermark()
            subscriptions = await work.subscriptions.page(customer_id, "", SUBSCRIPTIONS_MAX)
            current = [(item, item.current_period(now)) for item in subscriptions]
            drafts = [_draft(item, period, 1) for item, period in current if period.contains(now)]
            return CurrentSpend(tuple(await with_current_lines(work, drafts)), watermark.rated_through)


async def with_current_lines(work: Work, invoices: Sequence[Invoice]) -> list[Invoice]:
    """The invoices, drafts among them with the lines that they would have now."""
    drafts = [PeriodKey(invoice.subscription_id, invoice.period.start) for invoice in invoices if _is_draft(invoice)]
    charges = await work.charges.of(drafts)
    return [_with_lines(invoice, charges) if _is_draft(invoice) else invoice for invoice in invoices]


def _with_lines(draft: Invoice, charges: dict[PeriodKey, list[Charge]]) -> Invoice:
    current = charges.get(PeriodKey(draft.subscription_id, draft.period.start), [])
    return draft.with_lines(lines_from_charges(current, draft.currency))


def _is_draft(invoice: Invoice) -> bool:
    return invoice.state is InvoiceState.DRAFT


def _draft(subscription: Subscription, period: Period, ordinal: int) -> Invoice:
    return Invoice(
        invoice_id="",
        customer_id=subscription.customer_id,
        subscription_id=subscription.subscription_id,
        period=period,
        ordinal=ordinal,
        currency=subscription.currency,
    )
