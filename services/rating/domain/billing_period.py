"""Billing periods: what has to be rated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from libs.periods import Period
from services.rating.domain.commitment_term import CountedPeriod
from services.rating.domain.proration import PartOfPeriod
from services.rating.domain.usage import UsageScope


class PeriodKey(NamedTuple):
    """Names a billing period; its order is the order in which periods are locked."""

    tenant_id: str
    subscription_id: str
    period_start: datetime


class PeriodScope(NamedTuple):
    """Billing periods that start in a time; of those that one card prices, or of some customers, if any is named."""

    tenant_id: str
    within: Period
    priced_by: str = ""
    customer_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """A billing period as billing has it; `version` grows with every change.

    `time_zone` is the IANA zone whose days prorated usage counts. `whole` is what the period is a part of if its
    subscription starts or ends inside it, None if it is not shortened. `currency` is that of its prices, empty for
    that of the card's `prices`.
    """

    key: PeriodKey
    period_end: datetime
    customer_id: str
    rate_card_id: str
    version: int
    time_zone: str = "UTC"
    whole: Period | None = None
    currency: str = ""

    @property
    def period(self) -> Period:
        return Period(self.key.period_start, self.period_end)

    @property
    def counted(self) -> CountedPeriod:
        """What places in terms of commitments depend on."""
        return CountedPeriod(self.key.period_start, self.period_end, self.rate_card_id, self.whole)

    @property
    def shortened(self) -> PartOfPeriod | None:
        """The part that the period is, None if it is not shortened."""
        return None if self.whole is None else PartOfPeriod(self.period, self.whole, self.time_zone)

    @property
    def scope(self) -> UsageScope:
        return UsageScope(self.customer_id, self.period)
