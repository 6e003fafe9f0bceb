"""Offer billing periods as a versioned snapshot."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.charge import PeriodKey
from services.billing.usecases.ports import UnitOfWork


class ListBillingPeriods:
    """Periods by subscription and start, `limit` of those after a key."""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(
        self,
        *,
        tenant_id: str,
        subscription_id: str,
        ending_after: datetime | None,
        after: PeriodKey | None,
        limit: int,
    ) -> list[BillingPeriod]:
        async with self._unit_of_work(tenant_id) as work:
            return await work.periods.page(subscription_id, ending_after, after, limit)
