"""Both sides of ingest's equations, read at one moment."""

from __future__ import annotations

from decimal import Decimal

import asyncpg

from libs.database import Database, raw
from libs.periods import Period
from services.ingest.domain.door import to_ns
from services.ingest.domain.stored_event import EventCounts
from services.ingest.store.event_queries import COUNTS, counts_from_row
from services.ingest.store.measured_log import MEASURED_LOG
from services.ingest.store.meters import read_meters
from services.ingest.store.write_offs import WRITTEN_OFF
from services.ingest.usecases.reconcile import MAX_DIFFERENCES, Difference, StoredTotals, WindowTotals, side

_STORED = """
SELECT
    (SELECT count(*) FROM events WHERE tenant_id = $1) AS stored_events,
    (SELECT coalesce(sum(recorded), 0)::bigint FROM batch_results WHERE tenant_id = $1) AS stored_recorded,
    (SELECT count(*) FROM event_exceptions WHERE tenant_id = $1 AND ordinal < 0) AS stored_rejected_at_door
"""
# Whole windows on both sides, also if the period begins or ends inside one. No bound is infinite: 0 and 2^62. What the
# log has of a meter is put together as its windows are; `number` is of texts, too, where windows count them.
_PAIRS = f"""
WITH rule AS (SELECT * FROM unnest($4::text[], $5::text[]) AS rule (meter_id, merged)
), reading AS (
    SELECT measured.key COLLATE "C" AS meter_id, customer_id COLLATE "C" AS customer_id, merged,
        event_time_ns / 900000000000 AS number, event_time_ns, batch_id, ordinal,
        CASE WHEN merged = 'count' THEN 1 ELSE measured.value::numeric END AS value
    FROM {MEASURED_LOG} AS logged_event, jsonb_each_text(measured) AS measured JOIN rule ON rule.meter_id = measured.key
    WHERE tenant_id = $1 AND event_time_ns >= $2 AND event_time_ns < $3
), logged AS (
    SELECT meter_id, customer_id, number, count(*) AS events, CASE merged
        WHEN 'min' THEN min(value) WHEN 'max' THEN max(value)
        WHEN 'latest' THEN (array_agg(value ORDER BY event_time_ns DESC, batch_id DESC, ordinal DESC)
            FILTER (WHERE merged = 'latest'))[1]
        ELSE sum(value) END AS value
    FROM reading GROUP BY meter_id, customer_id, number, merged
), kept AS (
    SELECT meter_id, customer_id, (extract(epoch FROM window_start) / 900)::bigint AS number,
        sum(event_count)::bigint AS events, CASE merged
        WHEN 'min' THEN min(value) FILTER (WHERE event_count > 0)
        WHEN 'max' THEN max(value) FILTER (WHERE event_count > 0)
        WHEN 'latest' THEN (array_agg(value ORDER BY latest_ns DESC, latest_position DESC)
            FILTER (WHERE merged = 'latest'))[1]
        ELSE sum(value) END AS value
    FROM usage_windows JOIN rule USING (meter_id)
    WHERE tenant_id = $1 AND extract(epoch FROM window_start) >= $2 / 1000000000
        AND extract(epoch FROM window_start) < $3 / 1000000000
    GROUP BY 1, 2, 3, merged
), pair AS (
    SELECT meter_id, customer_id, number, kept.value AS kept_value, kept.events AS kept_events,
        logged.value AS logged_value, logged.events AS logged_events
    FROM kept FULL JOIN logged USING (meter_id, customer_id, number)
)
"""  # noqa: S608 - put together from constants
# One statement, hence one snapshot: nothing can be recorded between its sides.
_SIDES = f"""
{_PAIRS}, totals AS (
    SELECT coalesce(sum(kept_value), 0) AS windows_value, coalesce(sum(logged_value), 0) AS log_value,
        coalesce(sum(kept_events), 0)::bigint AS windows_events, coalesce(sum(logged_events), 0)::bigint AS log_events
    FROM pair
), counts AS ({COUNTS}), stored AS ({_STORED}), given_up AS ({WRITTEN_OFF})
SELECT windows_value, log_value, windows_events, log_events, accepted, rejected_at_door, recorded, duplicate, conflict,
    rejected_by_recorder, unassigned, stored_events, stored_recorded, stored_rejected_at_door, written_off,
    rejected_written_off
FROM totals, counts, stored, given_up
"""  # noqa: S608 - put together from constants
_DIFFERENCES = f"""
{_PAIRS}
SELECT meter_id, customer_id, kept_value, kept_events, logged_value, logged_events,
    to_timestamp(number * 900) AS window_start
FROM pair
WHERE (kept_value, kept_events) IS DISTINCT FROM (logged_value, logged_events)
    AND (coalesce(kept_events, 0) > 0 OR coalesce(logged_events, 0) > 0)
ORDER BY meter_id, customer_id, number LIMIT $6
"""  # noqa: S608 - put together from constants
_WINDOW_NS = 900_000_000_000


class PostgresReconciliationStore:
    """ReconciliationStore; a call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant_id: str, period: Period | None) -> tuple[EventCounts, StoredTotals, WindowTotals]:
        first, last = _bounds(period)
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            row = await driver.fetchrow(_SIDES, tenant_id, first, last, *await _rules(driver, tenant_id))
            differences = await window_differences(driver, tenant_id, period)
        stored = StoredTotals(
            events=row["stored_events"],
            recorded=row["stored_recorded"],
            rejected_at_door=row["stored_rejected_at_door"],
            written_off=row["written_off"],
            rejected_written_off=row["rejected_written_off"],
        )
        windows = WindowTotals(
            windows_value=row["windows_value"],
            log_value=row["log_value"],
            windows_events=row["windows_events"],
            log_events=row["log_events"],
            differences=differences,
        )
        return counts_from_row(row), stored, windows


async def window_differences(driver: asyncpg.Connection, tenant_id: str, period: Period | None) -> list[Difference]:
    """Where windows and log differ at this moment, by meter, customer and time, some of them if they are many; `period`
    is of events, in whole windows (None: all)."""
    # Before the sides: a meter that is created meanwhile has nothing on either yet.
    rules = await _rules(driver, tenant_id)
    rows = await driver.fetch(_DIFFERENCES, tenant_id, *_bounds(period), *rules, MAX_DIFFERENCES)
    return [_difference(row) for row in rows]


async def _rules(driver: asyncpg.Connection, tenant_id: str) -> tuple[list[str], list[str]]:
    """The tenant's meters, and how windows of each are merged."""
    meters = await read_meters(driver, tenant_id)
    return [meter.meter_id for meter in meters], [meter.window_aggregation for meter in meters]


def _bounds(period: Period | None) -> tuple[int, int]:
    if period is None:
        return 0, 1 << 62
    first, last = to_ns(period.start), to_ns(period.end)
    return first // _WINDOW_NS * _WINDOW_NS, -(-last // _WINDOW_NS) * _WINDOW_NS


def _difference(row: asyncpg.Record) -> Difference:
    value: Decimal | None = row["kept_value"]
    at = row["window_start"].isoformat()
    return Difference(
        subject=f"customer {row['customer_id']}, meter {row['meter_id']}, window {at}",
        left=side(value, row["kept_events"]),
        right=side(row["logged_value"], row["logged_events"]),
    )
