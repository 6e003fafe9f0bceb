"""Present charges in PostgreSQL, as they are published, for those who watch them."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from datetime import datetime

import asyncpg

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.live_charge import ChargeKey, ChargeWatch, LiveCharge
from services.rating.store.keys import NUMBERED_KEYS, OF_KEY, numbered_key_columns
from services.rating.wire.charges import charge_bytes

# Behind the last subscription and start, by the primary key; $4 is no condition where all are watched.
_PERIODS = """
SELECT subscription_id, period_start, period_end, customer_id FROM billing_periods
WHERE tenant_id = $1 AND (subscription_id, period_start) > ($2, $3) AND period_end > $5
    AND ($6::timestamptz IS NULL OR period_start < $6) AND {named}
ORDER BY subscription_id, period_start LIMIT $7
"""
_ALL = _PERIODS.format(named="$4::text[] IS NOT NULL")
_OF_SUBSCRIPTIONS = _PERIODS.format(named="subscription_id = ANY($4::text[])")
_OF_CUSTOMERS = _PERIODS.format(named="customer_id = ANY($4::text[])")

_CHARGES = f"""
SELECT k.number, c.price_id, c.content, c.version, c.trace_parent FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (SELECT price_id, content, version, trace_parent FROM charges WHERE {OF_KEY} OFFSET 0) c
"""
_BEFORE_ALL = datetime.fromisoformat("0001-01-02T00:00:00+00:00")


class PostgresLiveChargeStore:
    """Charges of billing periods in the order of their keys."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def page(
        self, watch: ChargeWatch, after: PeriodKey | None, limit: int
    ) -> tuple[list[LiveCharge], PeriodKey | None]:
        """Return the charges of the next `limit` billing periods, and the last of these; None if none are left."""
        statement, named = _OF_CUSTOMERS, watch.customer_ids
        if not named:
            statement, named = (_OF_SUBSCRIPTIONS if watch.subscription_ids else _ALL), watch.subscription_ids
        last = ("", _BEFORE_ALL) if after is None else (after.subscription_id, after.period_start)
        times = (watch.ending_after, watch.starting_before)
        periods = await self._connection.fetch(statement, watch.tenant_id, *last, sorted(named), *times, limit)
        keys = [PeriodKey(watch.tenant_id, row["subscription_id"], row["period_start"]) for row in periods]
        rows = await self._connection.fetch(_CHARGES, *numbered_key_columns(keys))
        charges = [
            LiveCharge(
                ChargeKey(keys[number - 1].subscription_id, keys[number - 1].period_start, price_id),
                periods[number - 1]["customer_id"],
                periods[number - 1]["period_end"],
                version,
                charge_bytes(content, version, trace_parent),
            )
            for number, price_id, content, version, trace_parent in rows
        ]
        return charges, keys[-1] if len(keys) == limit else None
