"""Billing periods of a customer, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey

_CONTAINING = """
SELECT subscription_id, period_start, period_end, rate_card_id, version, time_zone, whole_start, whole_end, currency
FROM billing_periods
WHERE tenant_id = $1 AND customer_id = $2 AND period_start <= $3 AND period_end > $3
ORDER BY subscription_id, period_start
"""


class PostgresCustomerPeriodStore:
    """The billing periods of one customer over its subscriptions."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def containing(self, tenant_id: str, customer_id: str, at: datetime) -> list[BillingPeriod]:
        """Return the billing periods that contain an instant, by subscription."""
        rows = await self._connection.fetch(_CONTAINING, tenant_id, customer_id, at)
        return [
            BillingPeriod(
                PeriodKey(tenant_id, row["subscription_id"], row["period_start"]),
                row["period_end"],
                customer_id,
                row["rate_card_id"],
                row["version"],
                row["time_zone"],
                None if row["whole_start"] is None else Period(row["whole_start"], row["whole_end"]),
                row["currency"],
            )
            for row in rows
        ]
