"""End a subscription with its current billing period, or in the middle of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from libs.clock import Clock
from libs.ids import check_resource_id
from services.billing.domain.charge import PeriodKey
from services.billing.domain.subscription import BillingPeriodClosing, Subscription
from services.billing.usecases.current_subscription import lock_current
from services.billing.usecases.get_subscriptions import SubscriptionView, view_of
from services.billing.usecases.ports import UnitOfWork, Work
from services.billing.usecases.request import Request, require_valid


class CancelSubscription:
    """The current period is invoiced as usual, no later one ever. One that has ended keeps its end.

    With a last date the current period is cut after it, and so becomes a part of the whole one that it was.

    :raises InvalidInput, SubscriptionNotFound, SubscriptionEnded, BillingPeriodClosing, RequestIdReused: and nothing
        changes
    """

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(
        self, *, request: Request, tenant_id: str, subscription_id: str, last_date: date | None = None
    ) -> SubscriptionView:
        violation = check_resource_id(subscription_id, "subscription_id")
        require_valid(request.request_id, [violation] if violation else [])
        real_now = self._clock()
        async with self._unit_of_work(tenant_id) as work:
            # Until the end is stored, or a period could become due, and be invoiced, that begins after that end.
            now = (await work.tenants.lock_clock()).now(real_now)
            if await request.claim(work, subscription_id, real_now) is None:
                subscription = await lock_current(work, subscription_id, now)
                if last_date is None:
                    await _end(work, subscription, now)
                else:
                    await _end_after(work, subscription, last_date, now)
            return await view_of(work, await work.subscriptions.get(subscription_id), now)


async def _end(work: Work, subscription: Subscription, now: datetime) -> None:
    key = subscription.subscription_id
    stored = (await work.periods.containing([key], now)).get(key)
    canceled = subscription.canceled(stored.period if stored else subscription.current_period(now))
    if canceled.ended_at is not None:
        await work.subscriptions.end(key, canceled.ended_at)


async def _end_after(work: Work, subscription: Subscription, last_date: date, now: datetime) -> None:
    key = subscription.subscription_id
    stored = (await work.periods.containing([key], now)).get(key)
    current = stored.period if stored else None
    ends_at = subscription.end_after(last_date, current)
    if current is not None and ends_at < current.end:
        grace = timedelta(seconds=(await work.tenants.get()).invoice_grace_s)
        if not await work.periods.cut(PeriodKey(key, current.start), ends_at, grace):
            raise BillingPeriodClosing(f"the billing period of {key} is being invoiced", subscriptionId=key)
    await work.subscriptions.end(key, ends_at)
