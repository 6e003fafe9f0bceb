"""Billing periods as they are stored, from the first usage to the invoice."""

from __future__ import annotations

from dataclasses import dataclass

from libs.periods import Period
from services.billing.domain.charge import PeriodKey


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """One stored period of a subscription; `version` grows with every change, `time_zone` and `currency` are the
    subscription's.

    `whole` is what it is a part of if the subscription starts or ends inside, None if it is not shortened.
    """

    subscription_id: str
    customer_id: str
    rate_card_id: str
    period: Period
    version: int
    time_zone: str
    whole: Period | None = None
    currency: str = ""

    @property
    def key(self) -> PeriodKey:
        return PeriodKey(self.subscription_id, self.period.start)
