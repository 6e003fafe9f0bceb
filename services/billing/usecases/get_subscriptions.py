"""Look at subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from libs.periods import Period
from services.billing.domain.subscription import Subscription
from services.billing.usecases.ports import UnitOfWork


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """A subscription as it is at the tenant's `now`."""

    subscription: Subscription
    now: datetime

    @property
    def current_period(self) -> Period:
        return self.subscription.current_period(self.now)


class GetSubscription:
    """:raises SubscriptionNotFound: if there is none"""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, subscription_id: str) -> SubscriptionView:
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(self._clock())
            return SubscriptionView(await work.subscriptions.get(subscription_id), now)


class ListSubscriptions:
    """Subscriptions by id, `limit` of those after an id, of one customer or of all."""

    def __init__(self, *, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def __call__(self, *, tenant_id: str, customer_id: str, after: str, limit: int) -> list[SubscriptionView]:
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(self._clock())
            found = await work.subscriptions.page(customer_id, after, limit)
        return [SubscriptionView(subscription, now) for subscription in found]
