"""The states of windows and, at edges inside them, of the log; and what was measured in single events."""

from __future__ import annotations

from datetime import datetime

import orjson

from libs.database import Database, raw
from services.ingest.domain.aggregations import WindowState
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store.effective_events import EFFECTIVE
from services.ingest.store.measured_events import DIMENSIONS, MEASURED, MERGED, POSITION, event_columns
from services.ingest.store.meters import read_meter
from services.ingest.usecases.query_usage import UsageQuestion, UsageSelection
from services.ingest.usecases.usage_rows import Cursor, EventGroup, StateRow

# One statement, so that windows and log are of the same moment. `starts` are the rows' times in nanoseconds.
_STATES = f"""
WITH part AS (
    SELECT (extract(epoch FROM window_start) * 1000000000)::bigint AS at_ns, customer_id,
        dimensions - $7::text[] AS dimensions, value, event_count, latest_ns, latest_position
    FROM usage_windows
    WHERE tenant_id = $1 AND meter_id = $2 AND window_start >= $4 AND window_start < $5
        AND dimensions @> $8::text::jsonb {{customer}}
    UNION ALL
    SELECT event_time_ns, customer_id, {DIMENSIONS.format("$9::text[]")}, (measured ->> $2)::numeric, 1, event_time_ns,
        {POSITION}
    FROM unnest($10::bigint[], $11::bigint[]) AS edge (from_ns, to_ns)
    JOIN events ON event_time_ns >= from_ns AND event_time_ns < to_ns
    WHERE tenant_id = $1 AND measured ? $2 AND properties @> $8::text::jsonb {{customer}} AND {EFFECTIVE}
), usage_row AS (
    SELECT width_bucket(at_ns, $6::bigint[]) - 1 AS index,
        CASE WHEN $12 THEN customer_id ELSE '' END COLLATE "C" AS customer_id,
        dimensions, dimensions::text COLLATE "C" AS dimensions_text,
        {{merged}} AS value, sum(event_count)::bigint AS event_count
    FROM part WHERE ($3::text = '' OR customer_id = $3) AND event_count > 0 GROUP BY 1, 2, 3
)
SELECT index, customer_id, dimensions, dimensions_text, value, event_count FROM usage_row
WHERE $13::int IS NULL OR (index, customer_id, dimensions_text) > ($13, $14::text, $15::text)
ORDER BY index, customer_id, dimensions_text LIMIT $16
"""  # noqa: S608 - put together from constants
_OF_CUSTOMER = "AND customer_id = $3"
_EVENTS = f"""
SELECT CASE WHEN $5 THEN customer_id ELSE '' END COLLATE "C" AS customer_id,
    {DIMENSIONS.format("$6::text[]")} AS dimensions, event_time_ns, {POSITION} AS position, {MEASURED}
FROM events
WHERE tenant_id = $1 AND measured ? $2 AND event_time_ns >= $3 AND event_time_ns < $4
    AND properties @> $7::text::jsonb AND ($8::text = '' OR customer_id = $8) {{customer}} AND {EFFECTIVE}
ORDER BY event_time_ns LIMIT $9
"""  # noqa: S608 - put together from constants
_OF_CUSTOMER_8 = "AND customer_id = $8"
_FIRST_NS = -(1 << 63)


class PostgresUsageStore:
    """UsageStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def meter(self, tenant_id: str, meter_id: str) -> Meter:
        async with self._database.transaction(tenant_id) as connection:
            return await read_meter(await raw(connection), tenant_id, meter_id)

    async def states(
        self, selection: UsageSelection, aggregation: Aggregation, after: Cursor | None, limit: int
    ) -> list[StateRow]:
        question, windows = selection.question, selection.windows
        bounds = (windows.start, windows.end) if windows else (question.start, question.start)
        index, customer_id, dimensions = after or (None, None, None)
        customer = _OF_CUSTOMER if question.customer_id else ""
        async with self._database.transaction(question.tenant_id) as connection:
            rows = await (await raw(connection)).fetch(
                _STATES.format(customer=customer, merged=MERGED[aggregation]),
                question.tenant_id,
                question.meter_id,
                question.customer_id,
                *bounds,
                [to_ns(row.start) for row in selection.rows],
                list(selection.dropped),
                _filters(question),
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
            StateRow(
                index=row["index"],
                customer_id=row["customer_id"],
                dimensions=row["dimensions"],
                dimensions_text=row["dimensions_text"],
                state=WindowState(row["event_count"], row["value"]),
            )
            for row in rows
        ]

    async def events(
        self, question: UsageQuestion, meter: Meter, start: datetime | None, limit: int
    ) -> list[EventGroup]:
        customer = _OF_CUSTOMER_8 if question.customer_id else ""
        async with self._database.transaction(question.tenant_id) as connection:
            rows = await (await raw(connection)).fetch(
                _EVENTS.format(customer=customer),
                question.tenant_id,
                meter.meter_id,
                _FIRST_NS if start is None else to_ns(start),
                to_ns(question.end),
                question.by_customer,
                list(question.group_by),
                _filters(question),
                question.customer_id,
                limit,
            )
        groups: dict[tuple[str, str], list[int]] = {}
        texts: dict[str, dict[str, str]] = {}
        for number, row in enumerate(rows):
            text = orjson.dumps(row["dimensions"], option=orjson.OPT_SORT_KEYS).decode()
            texts.setdefault(text, row["dimensions"])
            groups.setdefault((row["customer_id"], text), []).append(number)
        return [
            EventGroup(customer_id, texts[text], text, event_columns(meter, [rows[number] for number in numbers]))
            for (customer_id, text), numbers in groups.items()
        ]


def _filters(question: UsageQuestion) -> str:
    return orjson.dumps({item.property: item.value for item in question.filters}).decode()
