"""A subscription that is to change now."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.subscription import Subscription, SubscriptionNotFound
from services.billing.usecases.extend_periods import extend
from services.billing.usecases.ports import Work


async def lock_current(work: Work, subscription_id: str, now: datetime) -> Subscription:
    """Return it locked, with all billing periods that it has at the tenant's `now`.

    :raises SubscriptionNotFound: if there is none
    """
    # The clock may have moved further than the worker has come.
    await extend(work, [subscription_id], now)
    locked = {item.subscription_id: item for item in await work.subscriptions.lock([subscription_id])}
    if subscription_id not in locked:
        raise SubscriptionNotFound(f"no subscription {subscription_id}", subscriptionId=subscription_id)
    return locked[subscription_id]
