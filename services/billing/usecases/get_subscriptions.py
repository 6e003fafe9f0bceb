"""Look at subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from libs.periods import Period
from services.billing.domain.subscription import Subscription
from services.billing.usecases.ports import UnitOfWork, Work


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """A subscription as it is at the tenant's `now`, with the billing period that contains it."""

    subscription: Subscription
    current_period: Period


async def view_of(work: Work, subscription: Subscription, now: datetime) -> SubscriptionView:
    return (await views_of(work, [subscription], now))[0]


async def views_of(work: Work, subscriptions: Sequence[Subscription], now: datetime) -> list[SubscriptionView]:
    """Stored periods count: they may have been split. What is not stored yet is computed, and what is behind an end."""
    stored = await work.periods.containing([item.subscription_id for item in subscriptions], now)
    views = []
    for item in subscriptions:
        found = stored.get(item.subscription_id)
        if found is None or (item.ended_at is not None and found.period.start >= item.ended_at):
            views.append(SubscriptionView(item, item.current_period(now)))
        else:
            views.append(SubscriptionView(item, found.period))
    return views


class GetSubscription:
    """:raises SubscriptionNotFound: if there is none"""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, subscription_id: str) -> SubscriptionView:
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(self._clock())
            return await view_of(work, await work.subscriptions.get(subscription_id), now)


class ListSubscriptions:
    """Subscriptions by id, `limit` of those after an id, of one customer or of all."""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, customer_id: str, after: str, limit: int) -> list[SubscriptionView]:
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(self._clock())
            return await views_of(work, await work.subscriptions.page(customer_id, after, limit), now)
