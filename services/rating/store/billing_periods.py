"""Billing periods in PostgreSQL: billing's state, kept by version."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey, PeriodScope
from services.rating.store.keys import KEYS, OF_KEY, key_columns

_NAMES = (
    "tenant_id, subscription_id, period_start, period_end, customer_id, rate_card_id, version, time_zone,"
    " whole_start, whole_end, currency"
)
_COLUMNS = (
    "p.tenant_id, p.subscription_id, p.period_start, p.period_end, p.customer_id, p.rate_card_id, p.version,"
    " p.time_zone, p.whole_start, p.whole_end, p.currency"
)

_SAVE = """
INSERT INTO billing_periods AS p (tenant_id, subscription_id, period_start, period_end, customer_id, rate_card_id,
                                  version, time_zone, whole_start, whole_end, currency, fetched)
SELECT n.tenant_id, n.subscription_id, n.period_start, n.period_end, n.customer_id, n.rate_card_id, n.version,
    n.time_zone, n.whole_start, n.whole_end, n.currency, false
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::bigint[],
        $8::text[], $9::timestamptz[], $10::timestamptz[], $11::text[])
    AS n(tenant_id, subscription_id, period_start, period_end, customer_id, rate_card_id, version, time_zone,
        whole_start, whole_end, currency)
ORDER BY tenant_id, subscription_id, period_start
ON CONFLICT (tenant_id, subscription_id, period_start) DO UPDATE
    SET period_end = excluded.period_end, customer_id = excluded.customer_id, rate_card_id = excluded.rate_card_id,
        version = excluded.version, time_zone = excluded.time_zone, whole_start = excluded.whole_start,
        whole_end = excluded.whole_end, currency = excluded.currency, fetched = false
    WHERE p.version < excluded.version
RETURNING p.tenant_id, p.subscription_id, p.period_start
"""

_LOCK = f"""
SELECT {_COLUMNS} FROM {KEYS}
CROSS JOIN LATERAL (SELECT {_NAMES} FROM billing_periods WHERE {OF_KEY} FOR NO KEY UPDATE) p
"""

_UNFETCHED = f"""
SELECT {_COLUMNS} FROM {KEYS}
CROSS JOIN LATERAL (SELECT {_NAMES} FROM billing_periods WHERE {OF_KEY} AND NOT fetched OFFSET 0) p
"""

_SET_FETCHED = f"""
UPDATE billing_periods SET fetched = true WHERE ctid = ANY(ARRAY(
    SELECT p.ctid
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])
        AS k(tenant_id, subscription_id, period_start, version)
    CROSS JOIN LATERAL (
        SELECT ctid FROM billing_periods WHERE {OF_KEY} AND version = k.version FOR NO KEY UPDATE
    ) p
))
"""

_CONTAINING = f"""
SELECT k.ordinal, {_COLUMNS}
FROM unnest($2::text[], $3::timestamptz[]) WITH ORDINALITY AS k(subscription_id, instant, ordinal)
CROSS JOIN LATERAL (
    SELECT {_NAMES} FROM billing_periods
    WHERE tenant_id = $1 AND subscription_id = k.subscription_id AND period_start <= k.instant
        AND k.instant < period_end
    ORDER BY period_start DESC LIMIT 1
) p
"""

_STARTING_IN = f"""
SELECT {_COLUMNS} FROM billing_periods p
WHERE p.tenant_id = $1 AND (p.subscription_id, p.period_start) > ($2, $3)
    AND ($4::timestamptz IS NULL OR p.period_start >= $4) AND ($5::timestamptz IS NULL OR p.period_start < $5)
ORDER BY p.subscription_id, p.period_start LIMIT $6
"""
_BY_CUSTOMER = f"""
SELECT {_COLUMNS} FROM billing_periods p
WHERE p.tenant_id = $1 AND (p.customer_id, p.subscription_id, p.period_start) > ($2, $3, $4)
    AND p.period_start >= $5 AND p.period_start < $6 AND ($7 = '' OR p.rate_card_id = $7)
    AND ($8::text[] IS NULL OR p.customer_id = ANY($8))
ORDER BY p.customer_id, p.subscription_id, p.period_start LIMIT $9
"""
_BEFORE_ALL = datetime.fromisoformat("0001-01-02T00:00:00+00:00")


class PostgresBillingPeriodStore:
    """The newest known version of each billing period."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def save(self, periods: Sequence[BillingPeriod]) -> list[PeriodKey]:
        """Store periods that are new or newer and return their keys; the caller holds the usage locks exclusively.

        Each period may be given once only.
        """
        rows = await self._connection.fetch(
            _SAVE,
            [period.key.tenant_id for period in periods],
            [period.key.subscription_id for period in periods],
            [period.key.period_start for period in periods],
            [period.period_end for period in periods],
            [period.customer_id for period in periods],
            [period.rate_card_id for period in periods],
            [period.version for period in periods],
            [period.time_zone for period in periods],
            [period.whole.start if period.whole else None for period in periods],
            [period.whole.end if period.whole else None for period in periods],
            [period.currency for period in periods],
        )
        return [PeriodKey(*row) for row in rows]

    async def lock(self, keys: Sequence[PeriodKey]) -> list[BillingPeriod]:
        """Return periods, in the order of their keys and locked until the transaction ends: one rates at a time."""
        return [_period(row) for row in await self._connection.fetch(_LOCK, *key_columns(keys))]

    async def unfetched(self, keys: Sequence[PeriodKey]) -> list[BillingPeriod]:
        """Return those of the periods whose windows were not asked for from ingest yet."""
        return [_period(row) for row in await self._connection.fetch(_UNFETCHED, *key_columns(keys))]

    async def set_fetched(self, periods: Sequence[BillingPeriod]) -> None:
        """Remember that the windows of these versions of periods were fetched."""
        await self._connection.execute(
            _SET_FETCHED,
            [period.key.tenant_id for period in periods],
            [period.key.subscription_id for period in periods],
            [period.key.period_start for period in periods],
            [period.version for period in periods],
        )

    async def containing(self, tenant_id: str, instants: Sequence[tuple[str, datetime]]) -> list[BillingPeriod | None]:
        """Return, for each (subscription, instant), the period that contains the instant, or None."""
        found: list[BillingPeriod | None] = [None] * len(instants)
        subscriptions, moments = [item[0] for item in instants], [item[1] for item in instants]
        for ordinal, *row in await self._connection.fetch(_CONTAINING, tenant_id, subscriptions, moments):
            found[ordinal - 1] = _period(row)
        return found

    async def starting_in(
        self, tenant_id: str, within: Period | None, after: PeriodKey | None, limit: int
    ) -> list[BillingPeriod]:
        """Return the next periods behind `after` (None: from the first) that start within a time (None: any)."""
        last = ("", _BEFORE_ALL) if after is None else (after.subscription_id, after.period_start)
        start, end = (None, None) if within is None else (within.start, within.end)
        return [_period(row) for row in await self._connection.fetch(_STARTING_IN, tenant_id, *last, start, end, limit)]

    async def by_customer(
        self, scope: PeriodScope, after: tuple[str, str, datetime] | None, limit: int
    ) -> list[BillingPeriod]:
        """Return the next periods of a scope behind `after`, by customer, subscription and start."""
        rows = await self._connection.fetch(
            _BY_CUSTOMER,
            *(scope.tenant_id, *(after or ("", "", _BEFORE_ALL)), scope.within.start, scope.within.end),
            *(scope.priced_by, list(scope.customer_ids) or None, limit),
        )
        return [_period(row) for row in rows]


def _period(row: Sequence[object]) -> BillingPeriod:
    tenant_id, subscription_id, period_start, period_end, customer_id, rate_card_id, version, time_zone, *rest = row
    *whole, currency = rest
    return BillingPeriod(
        PeriodKey(str(tenant_id), str(subscription_id), period_start),  # type: ignore[arg-type]
        period_end,  # type: ignore[arg-type]
        str(customer_id),
        str(rate_card_id),
        int(version),  # type: ignore[call-overload]
        str(time_zone),
        None if whole[0] is None else Period(*whole),  # type: ignore[arg-type]
        str(currency),
    )
