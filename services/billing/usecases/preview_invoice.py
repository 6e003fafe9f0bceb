"""Show invoices that are not issued, as they would be with the charges of now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from libs.errors import FailedPrecondition, ServiceError
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.invoice import Invoice, InvoiceState, LineRefused, lines_from_charges
from services.billing.domain.subscription import Subscription
from services.billing.usecases.ports import Rating, UnitOfWork, Work
from services.billing.usecases.store_ports import OpenPeriod

_logger = logging.getLogger(__name__)

SUBSCRIPTIONS_MAX = 1_000


class TooManySubscriptions(FailedPrecondition):
    """The spend of a customer does not fit into one answer."""

    reason = "TOO_MANY_SUBSCRIPTIONS"


class PreviewInvoice:
    """The invoice of the period that holds `at`, by default the current one.

    :raises SubscriptionNotFound, BillingPeriodNotFound: if there is no such period
    :raises LineRefused: if its charges cannot be invoiced
    """

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, subscription_id: str, at: datetime | None) -> Invoice:
        async with self._unit_of_work(tenant_id) as work:
            subscription = await work.subscriptions.get(subscription_id)
            now = (await work.tenants.clock()).now(self._clock())
            computed = subscription.current_period(now) if at is None else subscription.period_at(at)
            stored = (await work.periods.containing([subscription_id], at or now)).get(subscription_id)
            draft = _draft(subscription, stored or OpenPeriod(computed, 1, subscription.rate_card_id))
            return _with_lines(draft, await current_charges(work, [draft]))


@dataclass(frozen=True, slots=True)
class CurrentSpend:
    """What open billing periods would be invoiced now; `rated_through` (real time) says how fresh that is at least.

    `live`: those that contain all that was recorded when it was asked for.
    """

    invoices: tuple[Invoice, ...]
    rated_through: datetime | None
    live: frozenset[PeriodKey] = frozenset()


class GetCurrentSpend:
    """One entry per subscription of a customer with an open billing period, priced as it is asked for.

    What rating cannot price at once is as it was rated last, which needs nobody else.

    :raises CustomerNotFound: if unknown
    :raises TooManySubscriptions: rather than to tell less than is spent
    :raises LineRefused: if charges cannot be invoiced
    """

    def __init__(self, *, unit_of_work: UnitOfWork, rating: Rating, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._rating = rating
        self._clock = clock

    async def __call__(self, *, tenant_id: str, customer_id: str) -> CurrentSpend:
        drafts, charges, now, rated_through = await self._as_rated(tenant_id, customer_id)
        live = await self._live(tenant_id, customer_id, now, drafts)
        charges |= live
        return CurrentSpend(tuple(_with_lines(draft, charges) for draft in drafts), rated_through, frozenset(live))

    async def _live(
        self, tenant_id: str, customer_id: str, now: datetime, drafts: Sequence[Invoice]
    ) -> dict[PeriodKey, list[Charge]]:
        if not drafts:
            return {}
        try:
            found = await self._rating.live_charges(tenant_id, customer_id, now)
        except ServiceError as error:
            _logger.info("the spend of %s is shown as it was rated last: %s", customer_id, error)
            return {}
        # A period that rating knows otherwise, as it was before a cancellation perhaps, is not what we show.
        shown = {(PeriodKey(draft.subscription_id, draft.period.start), draft.period) for draft in drafts}
        return {item.key: list(item.charges) for item in found if (item.key, item.period) in shown}

    async def _as_rated(
        self, tenant_id: str, customer_id: str
    ) -> tuple[list[Invoice], dict[PeriodKey, list[Charge]], datetime, datetime | None]:
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(self._clock())
            # Before the charges: it must not promise more than they contain.
            watermark = await work.watermark()
            found = await work.subscriptions.open_of(customer_id, now, SUBSCRIPTIONS_MAX + 1)
            if not found:
                await work.customers.get(customer_id)
            if len(found) > SUBSCRIPTIONS_MAX:
                raise TooManySubscriptions(f"customer {customer_id} has more than {SUBSCRIPTIONS_MAX} subscriptions")
            # Computed where a clock has moved further than the worker.
            current = [
                (item, stored or OpenPeriod(item.current_period(now), 1, item.rate_card_id)) for item, stored in found
            ]
            drafts = [_draft(item, shown) for item, shown in current if shown.period.contains(now)]
            return drafts, await current_charges(work, drafts), now, watermark.rated_through


async def show_drafts(work: Work, invoices: Sequence[Invoice]) -> list[Invoice]:
    """The invoices, drafts among them with the lines that they would have now.

    A draft whose charges cannot be invoiced is shown without lines: it must not hide the other invoices of a page, and
    the progress of billing tells why it is not issued.
    """
    drafts = [invoice for invoice in invoices if invoice.state is InvoiceState.DRAFT]
    charges = await current_charges(work, drafts)
    shown: list[Invoice] = []
    for invoice in invoices:
        try:
            shown.append(_with_lines(invoice, charges) if invoice.state is InvoiceState.DRAFT else invoice)
        except LineRefused:
            shown.append(invoice)
    return shown


async def current_charges(work: Work, drafts: Sequence[Invoice]) -> dict[PeriodKey, list[Charge]]:
    """The charges of the drafts' periods as they are now."""
    return await work.charges.of([PeriodKey(draft.subscription_id, draft.period.start) for draft in drafts])


def _with_lines(draft: Invoice, charges: dict[PeriodKey, list[Charge]]) -> Invoice:
    current = charges.get(PeriodKey(draft.subscription_id, draft.period.start), [])
    return draft.with_lines(lines_from_charges(current, draft.currency))


def _draft(subscription: Subscription, current: OpenPeriod) -> Invoice:
    return Invoice(
        invoice_id="",
        customer_id=subscription.customer_id,
        subscription_id=subscription.subscription_id,
        period=current.period,
        ordinal=current.ordinal,
        currency=subscription.currency,
    )
