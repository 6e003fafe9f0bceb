"""The queue of billing periods that have to be rated, in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import asyncpg

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.price_override import PriceOverride
from services.rating.domain.queue import Mark, SetAside
from services.rating.store.keys import KEYS, OF_KEY, key_columns

_MARK = f"""
INSERT INTO rating_marks (mark, tenant_id, subscription_id, period_start, marked_at, urgent)
SELECT nextval('rating_mark'), tenant_id, subscription_id, period_start, $4, $5 FROM {KEYS}
"""

_MARK_PRICED_BY = """
INSERT INTO rating_marks (mark, tenant_id, subscription_id, period_start, marked_at, urgent)
SELECT nextval('rating_mark'), tenant_id, subscription_id, period_start, $4, true FROM billing_periods
WHERE tenant_id = $1 AND rate_card_id = $2 AND ($3::timestamptz IS NULL OR period_start >= $3)
"""

_MARK_OVERRIDDEN = """
INSERT INTO rating_marks (mark, tenant_id, subscription_id, period_start, marked_at, urgent)
SELECT nextval('rating_mark'), tenant_id, subscription_id, period_start, $7, true FROM billing_periods
WHERE tenant_id = $1 AND rate_card_id = $2 AND ($3 = '' OR customer_id = $3) AND ($4 = '' OR subscription_id = $4)
    AND ($5::timestamptz IS NULL OR period_start >= $5) AND ($6::timestamptz IS NULL OR period_start < $6)
"""

_WAITING = """
SELECT mark, tenant_id, subscription_id, period_start, marked_at, urgent FROM rating_marks
WHERE mark > $2 ORDER BY mark LIMIT $1
"""

_RETRIES = """
SELECT tenant_id, subscription_id, period_start, due_at FROM rating_retries
WHERE due_at <= $1 ORDER BY due_at LIMIT $2
"""

_TAKE = """
DELETE FROM rating_marks WHERE mark = ANY(ARRAY(
    SELECT mark FROM rating_marks WHERE mark = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED
)) RETURNING mark
"""

_SET_ASIDE = f"""
SELECT k.tenant_id, k.subscription_id, k.period_start, r.attempts, r.due_at FROM {KEYS}
CROSS JOIN LATERAL (SELECT attempts, due_at FROM rating_retries WHERE {OF_KEY} OFFSET 0) r
"""

_RETRY_LATER = """
INSERT INTO rating_retries AS r (tenant_id, subscription_id, period_start, attempts, due_at)
SELECT tenant_id, subscription_id, period_start, attempts, due_at
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[], $5::timestamptz[])
    AS k(tenant_id, subscription_id, period_start, attempts, due_at)
ON CONFLICT (tenant_id, subscription_id, period_start) DO UPDATE
    SET attempts = excluded.attempts, due_at = excluded.due_at
"""

_FORGET = f"""
DELETE FROM rating_retries WHERE ctid = ANY(ARRAY(
    SELECT r.ctid FROM {KEYS} CROSS JOIN LATERAL (SELECT ctid FROM rating_retries WHERE {OF_KEY} FOR UPDATE) r
))
"""

_OLDEST_MARK = "SELECT min(mark) FROM rating_marks"


class PostgresRatingQueue:
    """Marks of billing periods to be rated. It has no row-level security and works in any transaction.

    Marks are only ever added and deleted, each by its number: who marks never waits for who rates. They go in the
    transaction that stores the charges, so that a mark is lost neither to a crash nor to a change meanwhile, which has
    a mark of its own.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def mark(self, keys: Collection[PeriodKey], now: datetime, *, urgent: bool = False) -> None:
        """Mark periods to be rated; those that were set aside too only if it is urgent."""
        if keys:
            await self._connection.execute(_MARK, *key_columns(keys), now, urgent)

    async def mark_priced_by(self, tenant_id: str, rate_card_id: str, since: datetime | None, now: datetime) -> None:
        """Mark the periods that a card prices and that start at or after `since` (None: all), urgently."""
        await self._connection.execute(_MARK_PRICED_BY, tenant_id, rate_card_id, since, now)

    async def mark_overridden(
        self, tenant_id: str, override: PriceOverride, since: datetime | None, now: datetime
    ) -> None:
        """Mark the periods that an override prices and that start at or after `since` (None: all), urgently."""
        target = (override.rate_card_id, override.customer_id, override.subscription_id)
        await self._connection.execute(_MARK_OVERRIDDEN, tenant_id, *target, since, override.end_at, now)

    async def waiting(self, limit: int, after: int = 0) -> list[Mark]:
        """Return the oldest marks behind a number, also those that somebody is working on."""
        rows = await self._connection.fetch(_WAITING, limit, after)
        return [Mark(row[0], PeriodKey(row[1], row[2], row[3]), row[4], row[5]) for row in rows]

    async def retries(self, now: datetime, limit: int) -> list[tuple[PeriodKey, datetime]]:
        """Return periods that were set aside and are due again, with that time; the longest due first."""
        rows = await self._connection.fetch(_RETRIES, now, limit)
        return [(PeriodKey(row[0], row[1], row[2]), row[3]) for row in rows]

    async def take(self, marks: Sequence[int]) -> set[int]:
        """Remove marks and return those that were there and that nobody else is removing."""
        return {row[0] for row in await self._connection.fetch(_TAKE, marks)} if marks else set()

    async def set_aside(self, keys: Collection[PeriodKey]) -> dict[PeriodKey, SetAside]:
        """Return those of the periods that were set aside."""
        rows = await self._connection.fetch(_SET_ASIDE, *key_columns(keys))
        return {PeriodKey(*row[:3]): SetAside(row[3], row[4]) for row in rows}

    async def retry_later(self, failed: Mapping[PeriodKey, SetAside]) -> None:
        """Set periods aside; watermarks do not wait for them."""
        if failed:
            ordered = sorted(failed)
            attempts, due_at = [failed[key].attempts for key in ordered], [failed[key].due_at for key in ordered]
            await self._connection.execute(_RETRY_LATER, *key_columns(ordered), attempts, due_at)

    async def forget(self, rated: Collection[PeriodKey]) -> None:
        """Take back that periods were set aside."""
        if rated:
            await self._connection.execute(_FORGET, *key_columns(rated))

    async def oldest_mark(self) -> int | None:
        """Return the lowest number of a mark that is neither rated nor set aside."""
        number: int | None = await self._connection.fetchval(_OLDEST_MARK)
        return number
