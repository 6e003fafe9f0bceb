"""The queue of billing periods that have to be rated, in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.queue import DuePeriod
from services.rating.store.keys import key_columns

_KEYS = "unnest($1::text[], $2::text[], $3::timestamptz[]) AS k(tenant_id, subscription_id, period_start)"

# The number of a later mark is drawn under the row's lock, so that it is above every number drawn before for the row.
# A period that failed before keeps its time: new usage does not heal an unknown card, and would make it busy work.
_MARK = f"""
INSERT INTO rating_due AS q (tenant_id, subscription_id, period_start, due_at, first_mark, last_mark, attempts)
SELECT tenant_id, subscription_id, period_start, $4, mark, mark, 0
FROM (
    SELECT k.tenant_id, k.subscription_id, k.period_start, nextval('rating_mark') AS mark FROM {_KEYS}
) AS marked
ORDER BY tenant_id, subscription_id, period_start
ON CONFLICT (tenant_id, subscription_id, period_start) DO UPDATE
    SET last_mark = nextval('rating_mark'),
        due_at = CASE WHEN q.attempts > 0 AND NOT $5 THEN q.due_at ELSE least(q.due_at, excluded.due_at) END,
        first_mark = CASE WHEN q.attempts > 0 AND $5 THEN excluded.first_mark ELSE q.first_mark END,
        attempts = CASE WHEN $5 THEN 0 ELSE q.attempts END
"""

# Who claims a period pushes its time back: if it dies, the period comes again. Periods that others claim are skipped.
_CLAIM = """
WITH claimed AS (
    SELECT tenant_id, subscription_id, period_start, due_at FROM rating_due
    WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE rating_due q SET due_at = $2 FROM claimed c
WHERE (q.tenant_id, q.subscription_id, q.period_start) = (c.tenant_id, c.subscription_id, c.period_start)
RETURNING q.tenant_id, q.subscription_id, q.period_start, q.last_mark, q.attempts, c.due_at
"""

_LOCKED = """
WITH rated AS (
    SELECT q.tenant_id, q.subscription_id, q.period_start, k.last_mark
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])
        AS k(tenant_id, subscription_id, period_start, last_mark)
    JOIN rating_due q USING (tenant_id, subscription_id, period_start)
    ORDER BY q.tenant_id, q.subscription_id, q.period_start FOR UPDATE OF q
)
"""
_SAME_ROW = "(q.tenant_id, q.subscription_id, q.period_start) = (r.tenant_id, r.subscription_id, r.period_start)"

# A mark that was set meanwhile has a number above the claimed one, which one is not known: the lowest possible is kept.
_KEEP_MARKED_AGAIN = f"""{_LOCKED}
UPDATE rating_due q SET first_mark = r.last_mark + 1, attempts = 0, due_at = least(q.due_at, $5)
FROM rated r WHERE {_SAME_ROW} AND q.last_mark > r.last_mark
"""
_REMOVE = f"""{_LOCKED}
DELETE FROM rating_due q USING rated r WHERE {_SAME_ROW} AND q.last_mark = r.last_mark
"""

_SET_ASIDE = f"""
WITH failed AS (
    SELECT q.tenant_id, q.subscription_id, q.period_start, k.due_at
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
        AS k(tenant_id, subscription_id, period_start, due_at)
    JOIN rating_due q USING (tenant_id, subscription_id, period_start)
    ORDER BY q.tenant_id, q.subscription_id, q.period_start FOR UPDATE OF q
)
UPDATE rating_due q SET attempts = q.attempts + 1, due_at = r.due_at
FROM failed r WHERE {_SAME_ROW}
"""

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
        """Take up to `limit` periods due at `now`, the longest due first; they are due again at `until`."""
        rows = await self._connection.fetch(_CLAIM, now, until, limit)
        return [DuePeriod(PeriodKey(*row[:3]), row["last_mark"], row["attempts"], row["due_at"]) for row in rows]

    async def finish(self, rated: Sequence[DuePeriod], now: datetime) -> None:
        """Remove rated periods, except those that were marked again since they were claimed: those are due now."""
        if not rated:
            return
        columns = _columns(rated, [period.last_mark for period in rated])
        await self._connection.execute(_KEEP_MARKED_AGAIN, *columns, now)
        await self._connection.execute(_REMOVE, *columns)

    async def set_aside(self, failed: Sequence[tuple[DuePeriod, datetime]]) -> None:
        """Let failed periods wait until the given instants; watermarks no longer wait for them."""
        if failed:
            periods = [period for period, _ in failed]
            await self._connection.execute(_SET_ASIDE, *_columns(periods, [due_at for _, due_at in failed]))

    async def oldest_mark(self) -> int | None:
        """Return the lowest number of a mark that is neither rated nor set aside."""
        number: int | None = await self._connection.fetchval(_OLDEST_MARK)
        return number


def _columns(periods: Sequence[DuePeriod], values: Sequence[object]) -> tuple[list[object], ...]:
    return (
        [period.key.tenant_id for period in periods],
        [period.key.subscription_id for period in periods],
        [period.key.period_start for period in periods],
        list(values),
    )
