"""Terms of commitments over several billing periods, in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import asyncpg

from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.commitment_term import CountedPeriod, committed_periods
from services.rating.domain.committed_cost import CommittedCost, SubscriptionKey
from services.rating.domain.rate_card import RateCard
from services.rating.store.keys import KEYS, OF_KEY, key_columns

_ADD_CARD = "INSERT INTO committed_cards (tenant_id, rate_card_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"

# As a rule nobody has such a commitment, and the condition is answered once.
_COUNTED = f"""
SELECT k.tenant_id, k.subscription_id, k.period_start FROM {KEYS}
WHERE EXISTS (SELECT FROM committed_costs) AND EXISTS (SELECT FROM committed_costs WHERE {OF_KEY})
"""

_SUBSCRIPTIONS = "unnest($1::text[], $2::text[]) AS k(tenant_id, subscription_id)"

_ADD_LOCKS = f"""
INSERT INTO committed_subscriptions (tenant_id, subscription_id)
SELECT tenant_id, subscription_id FROM {_SUBSCRIPTIONS} ORDER BY tenant_id, subscription_id
ON CONFLICT DO NOTHING
"""
_LOCK = f"""
SELECT 1 FROM {_SUBSCRIPTIONS} CROSS JOIN LATERAL (
    SELECT FROM committed_subscriptions WHERE tenant_id = k.tenant_id AND subscription_id = k.subscription_id
    FOR NO KEY UPDATE
) s
"""

_PERIODS = f"""
SELECT k.tenant_id, k.subscription_id, p.period_start, p.period_end, p.rate_card_id, p.whole_start, p.whole_end
FROM {_SUBSCRIPTIONS} CROSS JOIN LATERAL (
    SELECT period_start, period_end, rate_card_id, whole_start, whole_end FROM billing_periods
    WHERE tenant_id = k.tenant_id AND subscription_id = k.subscription_id ORDER BY period_start
) p
"""

_COSTS = """
SELECT k.tenant_id, k.subscription_id, c.period_start, c.price_id, c.term_start, c.used, c.cost
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS k(tenant_id, subscription_id, since)
CROSS JOIN LATERAL (
    SELECT period_start, price_id, term_start, used, cost FROM committed_costs
    WHERE tenant_id = k.tenant_id AND subscription_id = k.subscription_id AND period_start >= k.since
    ORDER BY period_start
) c
"""

_SAVE = """
INSERT INTO committed_costs AS c (tenant_id, subscription_id, period_start, price_id, term_start, used, cost)
SELECT tenant_id, subscription_id, period_start, price_id, term_start, used, cost
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::numeric[], $7::numeric[])
    AS n(tenant_id, subscription_id, period_start, price_id, term_start, used, cost)
ORDER BY tenant_id, subscription_id, period_start, price_id
ON CONFLICT (tenant_id, subscription_id, period_start, price_id) DO UPDATE
    SET term_start = excluded.term_start, used = excluded.used, cost = excluded.cost
"""

_DELETE = """
DELETE FROM committed_costs WHERE ctid = ANY(ARRAY(
    SELECT c.ctid
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
        AS k(tenant_id, subscription_id, period_start, price_id)
    CROSS JOIN LATERAL (
        SELECT ctid FROM committed_costs
        WHERE tenant_id = k.tenant_id AND subscription_id = k.subscription_id AND period_start = k.period_start
            AND price_id = k.price_id
        FOR UPDATE
    ) c
))
"""

# The neighbour before a period that appears or is cut may be the last one of a term no more.
_MARK_BESIDE = f"""
INSERT INTO rating_marks (mark, tenant_id, subscription_id, period_start, marked_at, urgent)
SELECT nextval('rating_mark'), tenant_id, subscription_id, period_start, $4, false
FROM (
    SELECT p.tenant_id, p.subscription_id, p.period_start
    FROM {KEYS}
    CROSS JOIN LATERAL (
        SELECT tenant_id, subscription_id, period_start, rate_card_id FROM billing_periods
        WHERE tenant_id = k.tenant_id AND subscription_id = k.subscription_id AND period_end >= k.period_start
        OFFSET 0
    ) p
    JOIN committed_cards c ON c.tenant_id = p.tenant_id AND c.rate_card_id = p.rate_card_id
    WHERE EXISTS (SELECT FROM committed_cards)
    EXCEPT SELECT tenant_id, subscription_id, period_start FROM {KEYS}
) AS beside
"""

_UNRATED = f"""
SELECT k.tenant_id, k.subscription_id, k.period_start FROM {KEYS}
JOIN rating_marks m USING (tenant_id, subscription_id, period_start)
UNION
SELECT k.tenant_id, k.subscription_id, k.period_start FROM {KEYS}
CROSS JOIN LATERAL (SELECT FROM rating_problems WHERE {OF_KEY} OFFSET 0) p
"""

_COMMITTED = f"""
SELECT k.tenant_id, k.subscription_id, k.period_start FROM {KEYS}
CROSS JOIN LATERAL (SELECT tenant_id, rate_card_id FROM billing_periods WHERE {OF_KEY} OFFSET 0) p
JOIN committed_cards c ON c.tenant_id = p.tenant_id AND c.rate_card_id = p.rate_card_id
"""


class PostgresCommitmentTermStore:
    """What billing periods cost before their commitments, and on which earlier ones each of them depends.

    Who writes holds the rows of the billing periods, and then that of their subscription in `committed_subscriptions`:
    so of two who rate periods of one subscription, one sees what the other one has stored, also if the second period
    did not exist when the first one was read.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add_prices(self, tenant_id: str, card: RateCard) -> None:
        """Remember that the card has such a commitment, if it has."""
        if committed_periods(card):
            await self._connection.execute(_ADD_CARD, tenant_id, card.rate_card_id)

    async def counted(self, keys: Sequence[PeriodKey]) -> set[PeriodKey]:
        """Return those of the billing periods of which a cost is stored."""
        return _keys(await self._connection.fetch(_COUNTED, *key_columns(keys)))

    async def committed(self, keys: Sequence[PeriodKey]) -> set[PeriodKey]:
        """Return those of the billing periods whose card has, or had, such a commitment."""
        return _keys(await self._connection.fetch(_COMMITTED, *key_columns(keys)))

    async def unrated(self, keys: Collection[PeriodKey]) -> set[PeriodKey]:
        """Return those of the billing periods that wait to be rated, or could not be."""
        return _keys(await self._connection.fetch(_UNRATED, *key_columns(keys)))

    async def lock(self, subscriptions: Collection[SubscriptionKey]) -> None:
        """Keep others from rating periods of the subscriptions until the transaction ends."""
        columns = _columns(subscriptions)
        await self._connection.execute(_ADD_LOCKS, *columns)
        await self._connection.execute(_LOCK, *columns)

    async def periods(self, subscriptions: Collection[SubscriptionKey]) -> dict[SubscriptionKey, list[CountedPeriod]]:
        """Return all billing periods of the subscriptions, by start."""
        found: dict[SubscriptionKey, list[CountedPeriod]] = {key: [] for key in subscriptions}
        for row in await self._connection.fetch(_PERIODS, *_columns(subscriptions)):
            whole = None if row["whole_start"] is None else Period(row["whole_start"], row["whole_end"])
            period = CountedPeriod(row["period_start"], row["period_end"], row["rate_card_id"], whole)
            found[SubscriptionKey(row["tenant_id"], row["subscription_id"])].append(period)
        return found

    async def costs(self, since: Mapping[SubscriptionKey, datetime]) -> list[CommittedCost]:
        """Return what is stored of the subscriptions' billing periods that start at or after an instant, by start."""
        subscriptions = sorted(since)
        rows = await self._connection.fetch(_COSTS, *_columns(subscriptions), [since[key] for key in subscriptions])
        return [CommittedCost(PeriodKey(*row[:3]), *row[3:]) for row in rows]

    async def save(self, changed: Sequence[CommittedCost], gone: Sequence[CommittedCost]) -> None:
        """Store costs, and delete those of prices that have no such commitment any more."""
        if changed:
            terms = [cost.term_start for cost in changed]
            used, costs = [cost.used for cost in changed], [cost.cost for cost in changed]
            await self._connection.execute(_SAVE, *_cost_columns(changed), terms, used, costs)
        if gone:
            await self._connection.execute(_DELETE, *_cost_columns(sorted(gone)))

    async def mark_beside(self, keys: Sequence[PeriodKey], now: datetime) -> None:
        """Have the billing periods rated that are counted otherwise since these appeared or changed."""
        await self._connection.execute(_MARK_BESIDE, *key_columns(keys), now)


def _keys(rows: Sequence[asyncpg.Record]) -> set[PeriodKey]:
    return {PeriodKey(*row) for row in rows}


def _columns(subscriptions: Collection[SubscriptionKey]) -> tuple[list[str], list[str]]:
    ordered = sorted(subscriptions)  # As rows are locked.
    return [key.tenant_id for key in ordered], [key.subscription_id for key in ordered]


def _cost_columns(costs: Sequence[CommittedCost]) -> tuple[list[str], list[str], list[datetime], list[str]]:
    keys = [cost.key for cost in costs]
    return (
        [key.tenant_id for key in keys],
        [key.subscription_id for key in keys],
        [key.period_start for key in keys],
        [cost.price_id for cost in costs],
    )
