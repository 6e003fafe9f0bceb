"""What billing periods cost before commitments over several of them, as it is kept."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.rating.domain.billing_period import PeriodKey


class SubscriptionKey(NamedTuple):
    """Names a subscription; its order is the order in which subscriptions are locked."""

    tenant_id: str
    subscription_id: str


class CommittedCost(NamedTuple):
    """What a price cost in a billing period before its commitment, in major units, exact.

    The amount was made of what the periods from `term_start` on had `used` of the commitment, up to this one.
    """

    key: PeriodKey
    price_id: str
    term_start: datetime
    used: Decimal
    cost: Decimal

    @property
    def subscription(self) -> SubscriptionKey:
        return subscription_of(self.key)


def subscription_of(key: PeriodKey) -> SubscriptionKey:
    return SubscriptionKey(key.tenant_id, key.subscription_id)
