"""Price overrides in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.price_override import OverrideFilter, PriceOverride
from services.rating.store.price_json import price_from_json, price_to_json

_NAMES = (
    "override_id, rate_card_id, customer_id, subscription_id, prices, effective_at, end_at, reason, created_at, number,"
    " currency"
)
_ADD = """
INSERT INTO price_overrides (tenant_id, override_id, rate_card_id, customer_id, subscription_id, prices, effective_at,
                             end_at, reason, created_at, currency)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING
RETURNING override_id
"""
_END = "UPDATE price_overrides SET end_at = $3 WHERE tenant_id = $1 AND override_id = $2"
_FIND = f"SELECT {_NAMES} FROM price_overrides WHERE tenant_id = $1 AND override_id = $2"
_LIST = f"""
SELECT {_NAMES} FROM price_overrides
WHERE tenant_id = $1 AND override_id > $2 AND ($3 = '' OR rate_card_id = $3) AND ($4 = '' OR customer_id = $4)
    AND ($5 = '' OR subscription_id = $5)
ORDER BY override_id LIMIT $6
"""

# As a rule a tenant has agreed nothing, and the first half of the condition is answered once.
_OF_PERIODS = f"""
SELECT k.number AS period_number, {_NAMES.replace("number", "o.number")}
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    WITH ORDINALITY AS k(tenant_id, for_card, for_customer, for_subscription, period_start, number)
CROSS JOIN LATERAL (
    SELECT {_NAMES} FROM price_overrides
    WHERE tenant_id = k.tenant_id AND customer_id = k.for_customer AND customer_id <> ''
    UNION ALL
    SELECT {_NAMES} FROM price_overrides
    WHERE tenant_id = k.tenant_id AND subscription_id = k.for_subscription AND subscription_id <> ''
) o
WHERE o.rate_card_id = k.for_card AND (o.effective_at IS NULL OR o.effective_at <= k.period_start)
    AND (o.end_at IS NULL OR k.period_start < o.end_at) AND EXISTS (SELECT FROM price_overrides)
"""


class PostgresPriceOverrideStore:
    """Overrides, of which only the end changes."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, tenant_id: str, override: PriceOverride) -> bool:
        """Add an override; return whether its id was free."""
        prices = json.dumps([price_to_json(price) for price in override.prices])
        target = (override.rate_card_id, override.customer_id, override.subscription_id)
        added = await self._connection.fetchval(
            _ADD,
            *(tenant_id, override.override_id, *target, prices, override.effective_at, override.end_at),
            *(override.reason, override.created_at, override.currency),
        )
        return added is not None

    async def end(self, tenant_id: str, override_id: str, end_at: datetime) -> None:
        """Let an override end."""
        await self._connection.execute(_END, tenant_id, override_id, end_at)

    async def find(self, tenant_id: str, override_id: str) -> PriceOverride | None:
        """Return an override, None if there is none."""
        row = await self._connection.fetchrow(_FIND, tenant_id, override_id)
        return None if row is None else _override(row)

    async def of_periods(self, periods: Sequence[BillingPeriod]) -> dict[PeriodKey, list[PriceOverride]]:
        """Return the overrides that are in force for billing periods, of those that have any."""
        found: defaultdict[PeriodKey, list[PriceOverride]] = defaultdict(list)
        rows = await self._connection.fetch(
            _OF_PERIODS,
            [period.key.tenant_id for period in periods],
            [period.rate_card_id for period in periods],
            [period.customer_id for period in periods],
            [period.key.subscription_id for period in periods],
            [period.key.period_start for period in periods],
        )
        for row in rows:
            found[periods[row["period_number"] - 1].key].append(_override(row))
        return dict(found)

    async def list(self, tenant_id: str, of: OverrideFilter, after: str, limit: int) -> list[PriceOverride]:
        """Return the next overrides behind the id `after`."""
        return [_override(row) for row in await self._connection.fetch(_LIST, tenant_id, after, *of, limit)]


def _override(row: asyncpg.Record) -> PriceOverride:
    return PriceOverride(
        override_id=row["override_id"],
        rate_card_id=row["rate_card_id"],
        customer_id=row["customer_id"],
        subscription_id=row["subscription_id"],
        prices=tuple(price_from_json(price) for price in row["prices"]),
        effective_at=row["effective_at"],
        end_at=row["end_at"],
        reason=row["reason"],
        created_at=row["created_at"],
        number=row["number"],
        currency=row["currency"],
    )
