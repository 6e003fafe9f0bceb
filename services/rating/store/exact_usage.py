"""Exact quantities of billing periods in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import ExactUsage, QuantityScope, Questions
from services.rating.domain.period_charge import exact_meters
from services.rating.domain.rate_card import RateCard
from services.rating.store.keys import NUMBERED_KEYS, OF_KEY, numbered_key_columns

_ADD_PRICES = """
INSERT INTO exact_prices (tenant_id, meter_id, rate_card_id)
SELECT $1, meter_id, $2 FROM unnest($3::text[]) AS m(meter_id) ORDER BY meter_id
ON CONFLICT DO NOTHING
"""

# Of any version of the card: one that is not in force costs a question, and no harm.
_WANTED = f"""
SELECT k.number, p.customer_id, p.period_start, p.period_end, p.time_zone, e.meter_id
FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (
    SELECT tenant_id, customer_id, rate_card_id, period_start, period_end, time_zone
    FROM billing_periods WHERE {OF_KEY} OFFSET 0
) p
JOIN exact_prices e ON e.tenant_id = p.tenant_id AND e.rate_card_id = p.rate_card_id
ORDER BY k.number, e.meter_id
"""

# Whatever was known here when a question was drawn up is in its answer, and so in those of all later numbers. Versions
# do not tell: of two windows that ingest commits at once the one with the higher version may be seen first, and a
# period that was cut short may have lost its newest window.
_SAVE = """
INSERT INTO exact_usage AS u (
    tenant_id, subscription_id, period_start, meter_id, value, event_count, highest_version, question)
SELECT tenant_id, subscription_id, period_start, meter_id, value, event_count, highest_version, $8::bigint
FROM unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::numeric[], $6::bigint[], $7::bigint[]
) AS n(tenant_id, subscription_id, period_start, meter_id, value, event_count, highest_version)
ON CONFLICT (tenant_id, subscription_id, period_start, meter_id) DO UPDATE
    SET value = excluded.value, event_count = excluded.event_count, highest_version = excluded.highest_version,
        question = excluded.question
    WHERE u.question < excluded.question
"""

_OF_PERIODS = f"""
SELECT k.number, u.meter_id, u.value, u.event_count, u.highest_version
FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (
    SELECT meter_id, value, event_count, highest_version FROM exact_usage WHERE {OF_KEY} OFFSET 0
) u
"""


class PostgresExactUsageStore:
    """ExactUsageStore in one open transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add_prices(self, tenant_id: str, card: RateCard) -> None:
        """Remember which meters of a card need exact quantities."""
        if meters := sorted(exact_meters(card)):
            await self._connection.execute(_ADD_PRICES, tenant_id, card.rate_card_id, meters)

    async def wanted(self, keys: Sequence[PeriodKey]) -> Questions:
        """Return what has to be asked for billing periods; those that need nothing are left out."""
        wanted: dict[PeriodKey, list[QuantityScope]] = {}
        for row in await self._connection.fetch(_WANTED, *numbered_key_columns(keys)):
            period = Period(row["period_start"], row["period_end"])
            scope = QuantityScope(row["customer_id"], row["meter_id"], period, row["time_zone"])
            wanted.setdefault(keys[row["number"] - 1], []).append(scope)
        return Questions(await self._connection.fetchval("SELECT nextval('usage_question')") if wanted else 0, wanted)

    async def save(self, found: Mapping[tuple[PeriodKey, str], ExactUsage], question: int) -> None:
        """Store answers, unless there are later ones; the caller holds the rows of the billing periods."""
        if not found:
            return
        rows = [(*key, meter_id, *found[key, meter_id]) for key, meter_id in sorted(found)]
        await self._connection.execute(_SAVE, *(list(column) for column in zip(*rows, strict=True)), question)

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, ExactUsage]]:
        """Return the stored quantities of billing periods by meter."""
        usage: dict[PeriodKey, dict[str, ExactUsage]] = {key: {} for key in keys}
        for number, meter_id, *exact in await self._connection.fetch(_OF_PERIODS, *numbered_key_columns(keys)):
            usage[keys[number - 1]][meter_id] = ExactUsage(*exact)
        return usage
