"""Usage of billing periods by dimensions, in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

import asyncpg

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.period_charge import matrix_meters
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity
from services.rating.store.keys import KEYS, NUMBERED_KEYS, OF_KEY, key_columns, numbered_key_columns

_ADD_PRICES = """
INSERT INTO matrix_prices (tenant_id, meter_id, rate_card_id)
SELECT $1, meter_id, $2 FROM unnest($3::text[]) AS m(meter_id) ORDER BY meter_id
ON CONFLICT DO NOTHING
RETURNING meter_id
"""

_SUM_UP = """
INSERT INTO period_dimensions (tenant_id, subscription_id, period_start, meter_id, dimensions_key, dimensions, value,
                               event_count)
SELECT p.tenant_id, p.subscription_id, p.period_start, w.meter_id, w.dimensions_key, (array_agg(w.dimensions))[1],
       sum(w.value), sum(w.event_count)
FROM {periods_and_meters}
CROSS JOIN LATERAL (
    SELECT meter_id, dimensions_key, dimensions, value, event_count FROM usage_windows
    WHERE tenant_id = p.tenant_id AND customer_id = p.customer_id AND meter_id = m.meter_id
        AND window_start >= p.period_start AND window_start < p.period_end
    OFFSET 0
) w
GROUP BY p.tenant_id, p.subscription_id, p.period_start, w.meter_id, w.dimensions_key
"""
_SUM_UP_CARD = _SUM_UP.format(
    periods_and_meters="""(
    SELECT tenant_id, subscription_id, period_start, period_end, customer_id FROM billing_periods
    WHERE tenant_id = $1 AND rate_card_id = $2
) p CROSS JOIN unnest($3::text[]) AS m(meter_id)"""
)
_SUM_UP_PERIODS = _SUM_UP.format(
    periods_and_meters=f"""{KEYS}
CROSS JOIN LATERAL (
    SELECT tenant_id, subscription_id, period_start, period_end, customer_id, rate_card_id FROM billing_periods
    WHERE {OF_KEY} OFFSET 0
) p
JOIN matrix_prices m ON m.tenant_id = p.tenant_id AND m.rate_card_id = p.rate_card_id"""
)
_CLEAR_PERIODS = f"""
DELETE FROM period_dimensions WHERE ctid = ANY(ARRAY(
    SELECT d.ctid FROM {KEYS}
    CROSS JOIN LATERAL (SELECT ctid FROM period_dimensions WHERE {OF_KEY} FOR UPDATE) d
))
"""
_OF_PERIODS = f"""
SELECT k.number, d.meter_id, d.dimensions, d.value
FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (SELECT meter_id, dimensions, value FROM period_dimensions WHERE {OF_KEY} OFFSET 0) d
ORDER BY k.number, d.meter_id
"""
_OF_WINDOWS = f"""
SELECT k.number, w.meter_id, (array_agg(w.dimensions))[1] AS dimensions, sum(w.value) AS value
FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (
    SELECT tenant_id, customer_id, period_start, period_end FROM billing_periods WHERE {OF_KEY} OFFSET 0
) p
CROSS JOIN LATERAL (
    SELECT meter_id, dimensions_key, dimensions, value FROM usage_windows
    WHERE tenant_id = p.tenant_id AND customer_id = p.customer_id AND meter_id = ANY($4)
        AND window_start >= p.period_start AND window_start < p.period_end
    OFFSET 0
) w
GROUP BY k.number, w.meter_id, w.dimensions_key
ORDER BY k.number, w.meter_id, w.dimensions_key
"""
_DIFFERING = f"""
SELECT DISTINCT k.number
FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (SELECT tenant_id, rate_card_id FROM billing_periods WHERE {OF_KEY} OFFSET 0) p
JOIN matrix_prices m ON m.tenant_id = p.tenant_id AND m.rate_card_id = p.rate_card_id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(value), 0) AS value FROM period_dimensions WHERE {OF_KEY} AND meter_id = m.meter_id
) d
LEFT JOIN LATERAL (SELECT value FROM period_usage WHERE {OF_KEY} AND meter_id = m.meter_id) u ON true
WHERE d.value <> coalesce(u.value, 0)
"""


class PostgresDimensionStore:
    """DimensionStore in one open transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add_prices(self, tenant_id: str, card: RateCard) -> None:
        """Keep the meters that a new card prices by dimensions up from now on, in the periods that it prices.

        The caller holds the tenant's usage lock exclusively.
        """
        meters = sorted(matrix_meters(card))
        if not meters:
            return
        added = [row[0] for row in await self._connection.fetch(_ADD_PRICES, tenant_id, card.rate_card_id, meters)]
        if added:
            await self._connection.execute(_SUM_UP_CARD, tenant_id, card.rate_card_id, added)

    async def rebuild(self, keys: Sequence[PeriodKey]) -> None:
        """Build the roll-ups of billing periods anew from the stored windows, under the exclusive usage lock."""
        columns = key_columns(keys)
        await self._connection.execute(_CLEAR_PERIODS, *columns)
        await self._connection.execute(_SUM_UP_PERIODS, *columns)

    async def differing(self, keys: Sequence[PeriodKey]) -> set[PeriodKey]:
        """Return those billing periods in which the dimensions of a meter do not add up to its roll-up."""
        rows = await self._connection.fetch(_DIFFERING, *numbered_key_columns(keys))
        return {keys[row["number"] - 1] for row in rows}

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, list[DimensionedQuantity]]]:
        """Return the quantities of billing periods by meter and dimensions, of those that a matrix prices."""
        return _by_key(keys, await self._connection.fetch(_OF_PERIODS, *numbered_key_columns(keys)))

    async def of_windows(
        self, keys: Sequence[PeriodKey], meter_ids: Sequence[str]
    ) -> dict[PeriodKey, dict[str, list[DimensionedQuantity]]]:
        """Return the quantities of some meters by dimensions from the windows, whatever the card in force."""
        rows = await self._connection.fetch(_OF_WINDOWS, *numbered_key_columns(keys), list(meter_ids))
        return _by_key(keys, rows)


def _by_key(
    keys: Sequence[PeriodKey], rows: Iterable[tuple[int, str, dict[str, str], Decimal]]
) -> dict[PeriodKey, dict[str, list[DimensionedQuantity]]]:
    found: dict[PeriodKey, defaultdict[str, list[DimensionedQuantity]]] = {key: defaultdict(list) for key in keys}
    for number, meter_id, dimensions, value in rows:
        found[keys[number - 1]][meter_id].append(DimensionedQuantity(dimensions, value))
    return {key: dict(meters) for key, meters in found.items()}
