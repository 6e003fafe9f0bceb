"""The queue of billing periods that have to be rated, in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.queue import DuePeriod
from services.rating.store.keys import KEYS, OF_KEY, key_columns

# The number of a later mark is drawn under the row's lock, so that it is above every number drawn before for the row.
# A period that failed before keeps its time: new usage does not heal an unknown card, and would make it busy work.
_MARK = f"""
INSERT INTO rating_due AS q (tenant_id, subscription_id, period_start, due_at, first_mark, last_mark, attempts)
SELECT tenant_id, subscription_id, period_start, $4, mark, mark, 0
FROM (
    SELECT k.tenant_id, k.subscription_id, k.period_start, nextval('rating_mark') AS mark FROM {KEYS}
) AS marked
ORDER BY tenant_id, subscription_id, period_start
ON CONFLICT (tenant_id, subscription_id, period_start) DO UPDATE
    SET last_mark = nextval('rating_mark'),
        due_at = CASE WHEN q.attempts > 0 AND NOT $5 THEN q.due_at ELSE least(q.due_at, excluded.due_at) END,
        first_mark = CASE WHEN q.attempts > 0 AND $5 THEN excluded.first_mark ELSE q.first_mark END,
        attempts = CASE WHEN $5 THEN 0 ELSE q.attempts END
"""

_DUE = """
SELECT ctid::text, tenant_id, subscription_id, period_start, last_mark, attempts, due_at FROM rating_due
WHERE due_at <= $1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""
_LEASE = "UPDATE rating_due SET due_at = $1 WHERE ctid = ANY($2::text[]::tid[])"

_LOCK = f"""
SELECT q.ctid, q.tenant_id, q.subscription_id, q.period_start, q.last_mark FROM {KEYS}
CROSS JOIN LATERAL (
    SELECT ctid::text, tenant_id, subscription_id, period_start, last_mark FROM rating_due WHERE {OF_KEY} FOR UPDATE
) q
"""
_REMOVE = "DELETE FROM rating_due WHERE ctid = ANY($1::text[]::tid[])"

# These two change rows that are locked, so there is always a conflict and nothing is inserted.
_CHANGE = """
INSERT INTO rating_due AS q (tenant_id, subscription_id, period_start, due_at, first_mark, last_mark, attempts)
SELECT k.tenant_id, k.subscription_id, k.period_start, k.due_at, k.first_mark, 0, 0
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
    AS k(tenant_id, subscription_id, period_start, due_at, first_mark)
ON CONFLICT (tenant_id, subscription_id, period_start) DO UPDATE
"""
_KEEP = f"{_CHANGE} SET first_mark = excluded.first_mark, attempts = 0, due_at = least(q.due_at, excluded.due_at)"
_SET_ASIDE = f"{_CHANGE} SET attempts = q.attempts + 1, due_at = excluded.due_at"

_OLDEST_MARK = "SELECT min(first_mark) FROM rating_due WHERE attempts = 0"


class PostgresRatingQueue:
    """Marks of billing periods to be rated. It has no row-level security and works in any transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def mark(self, keys: Sequence[PeriodKey], due_at: datetime, *, retry_failed: bool = False) -> None:
        """Mark periods to be rated at `due_at`; failed ones keep their time, unless the cause may be gone."""
        if keys:
            await self._connection.execute(_MARK, *key_columns(keys), due_at, retry_failed)

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[DuePeriod]:
        """Take up to `limit` periods due at `now`, the longest due first; they are due again at `until`.

        If who claimed them dies, they come again. Periods that others are claiming are skipped.
        """
        rows = await self._connection.fetch(_DUE, now, limit)
        if rows:
            await self._connection.execute(_LEASE, until, [row["ctid"] for row in rows])
        return [DuePeriod(PeriodKey(*row[1:4]), row["last_mark"], row["attempts"], row["due_at"]) for row in rows]

    async def finish(self, rated: Sequence[DuePeriod], now: datetime) -> None:
        """Remove rated periods, except those that were marked again since they were claimed: those are due now.

        A mark that was set meanwhile has a number above the claimed one; which one is not known, so the lowest
        possible is kept as the first.
        """
        claimed_marks = {period.key: period.last_mark for period in rated}
        rows = await self._connection.fetch(_LOCK, *key_columns(claimed_marks))
        unchanged = [row["ctid"] for row in rows if row["last_mark"] == claimed_marks[PeriodKey(*row[1:4])]]
        if unchanged:
            await self._connection.execute(_REMOVE, unchanged)
        again = [key for row in rows if row["last_mark"] > claimed_marks[key := PeriodKey(*row[1:4])]]
        if again:
            first_marks = [claimed_marks[key] + 1 for key in again]
            await self._connection.execute(_KEEP, *key_columns(again), [now] * len(again), first_marks)

    async def set_aside(self, failed: Mapping[PeriodKey, datetime]) -> None:
        """Let failed periods wait until the given instants; watermarks no longer wait for them."""
        rows = await self._connection.fetch(_LOCK, *key_columns(failed)) if failed else []
        if rows:
            keys = [PeriodKey(*row[1:4]) for row in rows]
            due_at = [failed[key] for key in keys]
            await self._connection.execute(_SET_ASIDE, *key_columns(keys), due_at, [0] * len(keys))

    async def oldest_mark(self) -> int | None:
        """Return the lowest number of a mark that is neither rated nor set aside."""
        number: int | None = await self._connection.fetchval(_OLDEST_MARK)
        return number
