"""Usage windows and their roll-ups in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.usage import (
    ExplainedUsage,
    MeterUsage,
    UsageDigest,
    UsageScope,
    WindowBatch,
    dimensions_key,
)
from services.rating.store import usage_sql
from services.rating.store.columns import joined, joined_numbers
from services.rating.store.keys import key_columns, numbered_key_columns

_DAY = timedelta(days=1)

# The inner query is sorted before the locks are taken: two transactions never wait for each other crosswise.
_LOCK = """
SELECT {function}(key) FROM (
    SELECT DISTINCT hashtextextended('usage:' || tenant_id, 0) AS key FROM unnest($1::text[]) AS t(tenant_id)
    ORDER BY 1
) AS keys
"""
_LOCK_SHARED = _LOCK.format(function="pg_advisory_xact_lock_shared")
_LOCK_EXCLUSIVE = _LOCK.format(function="pg_advisory_xact_lock")


class PostgresUsageStore:
    """Windows, replaced by higher versions only, and the roll-ups that move with them.

    A period's roll-up is built from the stored windows when the period appears or changes, and moved by differences
    afterwards. So that no window falls between the two (or counts in both), whoever applies windows holds the tenant's
    usage lock shared, and whoever changes periods or builds roll-ups holds it exclusively, each to the end of its
    transaction and before its first read.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lock(self, tenants: Sequence[str], *, exclusive: bool) -> None:
        """Take the usage locks of the tenants until the transaction ends."""
        await self._connection.execute(_LOCK_EXCLUSIVE if exclusive else _LOCK_SHARED, list(tenants))

    async def apply(self, batch: WindowBatch, now: datetime) -> int:
        """Store windows that are new or newer, move all roll-ups, and mark the billing periods that changed.

        Return how many those are. The caller holds the usage locks of the batch's tenants.
        """
        rows = batch.rows()
        tenant_ids, customer_ids, starts, meter_ids, dimensions, values, event_counts, versions, traces = zip(
            *rows, strict=True
        )
        changed: int = await self._connection.fetchval(
            usage_sql.APPLY,
            joined(tenant_ids),
            joined(customer_ids),
            joined_numbers(starts),
            joined(meter_ids),
            joined(dimensions),
            joined(values),
            joined_numbers(event_counts),
            joined_numbers(versions),
            joined(traces),
            joined([dimensions_key(text).hex() for text in dimensions]),
            now,
        )
        return changed

    async def rebuild(self, keys: Sequence[PeriodKey]) -> None:
        """Build the roll-ups of billing periods anew from the stored windows, under the exclusive usage lock."""
        columns = key_columns(keys)
        await self._connection.execute(usage_sql.CLEAR_PERIODS, *columns)
        await self._connection.execute(usage_sql.SUM_UP_PERIODS, *columns)

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, MeterUsage]]:
        """Return the usage of billing periods by meter; a meter without windows is left out."""
        usage: dict[PeriodKey, dict[str, MeterUsage]] = {key: {} for key in keys}
        for number, meter_id, *totals, trace_parent in await self._connection.fetch(
            usage_sql.PERIOD_USAGE, *numbered_key_columns(keys)
        ):
            usage[keys[number - 1]][meter_id] = MeterUsage(UsageDigest(*totals), trace_parent)
        return usage

    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[dict[str, UsageDigest]]:
        """Return what the stored windows of each scope add up to, by meter."""
        found: list[dict[str, UsageDigest]] = [{} for _ in scopes]
        rows = await self._connection.fetch(
            usage_sql.SCOPE_DIGESTS,
            tenant_id,
            list(range(len(scopes))),
            [scope.customer_id for scope in scopes],
            [scope.period.start for scope in scopes],
            [scope.period.end for scope in scopes],
        )
        for index, meter_id, *totals in rows:
            found[index][meter_id] = UsageDigest(*totals)
        return found

    async def explain(self, period: BillingPeriod, meter_ids: Sequence[str]) -> dict[str, list[ExplainedUsage]]:
        """Return the usage of each of the meters in a billing period by UTC day; days without usage are left out."""
        key, whole = period.key, period.period
        rows = await self._connection.fetch(
            usage_sql.EXPLAIN, key.tenant_id, period.customer_id, list(meter_ids), whole.start, whole.end
        )
        found: dict[str, list[ExplainedUsage]] = {meter_id: [] for meter_id in meter_ids}
        for row in rows:
            if cut := _utc_day(row["day"].year, row["day"].month, row["day"].day).intersection(whole):
                day = ExplainedUsage(cut, row["value"], row["event_count"], row["window_count"])
                found[row["meter_id"]].append(day)
        return found


def _utc_day(year: int, month: int, day: int) -> Period:
    start = datetime(year, month, day, tzinfo=UTC)
    return Period(start, start + _DAY)
