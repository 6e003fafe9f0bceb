"""Reads the billing periods whose state has to be published."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.charge import PeriodKey
from services.billing.store.billing_periods import billing_period_from_row, with_zones
from services.billing.store.tables import billing_periods


async def read_billing_periods(
    connection: AsyncConnection, tenant_id: str, marks: Sequence[str]
) -> list[BillingPeriod]:
    """The current periods of state marks, in a transaction that sees the tenant."""
    keys = [PeriodKey.parse(mark) for mark in marks]
    table = billing_periods
    wanted = [(key.subscription_id, key.period_start) for key in keys]
    query = with_zones().where(
        table.c.tenant_id == tenant_id, sa.tuple_(table.c.subscription_id, table.c.period_start).in_(wanted)
    )
    return [billing_period_from_row(row) for row in await connection.execute(query)]
