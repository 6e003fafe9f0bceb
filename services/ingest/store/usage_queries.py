"""Sums over windows and, at edges inside them, over the log."""

from __future__ import annotations

import orjson

from libs.database import Database, raw
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.store.meters import read_meter
from services.ingest.usecases.query_usage import Cursor, UsageRow, UsageSelection

# One statement, so that windows and log are of the same moment. `starts` are the rows' times in nanoseconds.
_USAGE = """
WITH part AS (
    SELECT (extract(epoch FROM window_start) * 1000000000)::bigint AS at_ns, customer_id,
        dimensions - $7::text[] AS dimensions, value, event_count
    FROM usage_windows
    WHERE tenant_id = $1 AND meter_id = $2 AND window_start >= $4 AND window_start < $5
        AND dimensions @> $8::text::jsonb {customer}
    UNION ALL
    SELECT event_time_ns, customer_id,
        (SELECT coalesce(jsonb_object_agg(key, value), '{{}}')
            FROM jsonb_each(properties) WHERE key = ANY ($9::text[])),
        (measured ->> $2)::numeric, 1
    FROM unnest($10::bigint[], $11::bigint[]) AS edge (from_ns, to_ns)
    JOIN events ON event_time_ns >= from_ns AND event_time_ns < to_ns
    WHERE tenant_id = $1 AND measured ? $2 AND properties @> $8::text::jsonb {customer}
), usage_row AS (
    SELECT width_bucket(at_ns, $6::bigint[]) - 1 AS index,
        CASE WHEN $12 THEN customer_id ELSE '' END COLLATE "C" AS customer_id,
        dimensions, dimensions::text COLLATE "C" AS dimensions_text,
        sum(value) AS value, sum(event_count)::bigint AS event_count
    FROM part WHERE $3::text = '' OR customer_id = $3 GROUP BY 1, 2, 3
)
SELECT index, customer_id, dimensions, dimensions_text, value, event_count FROM usage_row
WHERE event_count > 0 AND ($13::int IS NULL OR (index, customer_id, dimensions_text) > ($13, $14::text, $15::text))
ORDER BY index, customer_id, dimensions_text LIMIT $16
"""
_OF_ALL = _USAGE.format(customer="")
_OF_CUSTOMER = _USAGE.format(customer="AND customer_id = $3")


class PostgresUsageStore:
    """UsageStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def meter(self, tenant_id: str, meter_id: str) -> Meter:
        async with self._database.transaction(tenant_id) as connection:
            return await read_meter(await raw(connection), tenant_id, meter_id)

    async def usage(self, selection: UsageSelection, after: Cursor | None, limit: int) -> list[UsageRow]:
        question, windows = selection.question, selection.windows
        bounds = (windows.start, windows.end) if windows else (question.start, question.start)
        index, customer_id, dimensions = after or (None, None, None)
        async with self._database.transaction(question.tenant_id) as connection:
            rows = await (await raw(connection)).fetch(
                _OF_CUSTOMER if question.customer_id else _OF_ALL,
                question.tenant_id,
                question.meter_id,
                question.customer_id,
                *bounds,
                [to_ns(row.start) for row in selection.rows],
                list(selection.dropped),
                orjson.dumps({item.property: item.value for item in question.filters}).decode(),
                list(question.group_by),
                [to_ns(edge.start) for edge in selection.edges],
                [to_ns(edge.end) for edge in selection.edges],
                question.by_customer,
                index,
                customer_id,
                dimensions,
                limit,
            )
        return [
            UsageRow(
                index=row["index"],
                customer_id=row["customer_id"],
                dimensions=row["dimensions"],
                dimensions_text=row["dimensions_text"],
                value=row["value"],
                event_count=row["event_count"],
            )
            for row in rows
        ]
