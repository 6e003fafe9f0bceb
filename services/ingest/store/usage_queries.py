"""Usage by time and group, from windows and, at edges inside them, from the log; and single events."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import orjson

from libs.database import Database, raw
from services.ingest.domain.aggregations import WindowState
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.store.measured_events import DIMENSIONS, MEASURED, POSITION, event_columns
from services.ingest.store.measured_log import MEASURED_LOG
from services.ingest.store.meters import read_meter
from services.ingest.store.usage_selection import with_usage_rows
from services.ingest.store.usage_sql import USAGE_COLUMNS, Arguments, greatest_first
from services.ingest.usecases.usage_parts import UsagePart
from services.ingest.usecases.usage_question import UsageQuestion, UsageSelection
from services.ingest.usecases.usage_rows import Cursor, EventGroup

_EVENTS = f"""
SELECT CASE WHEN $5 THEN customer_id ELSE '' END COLLATE "C" AS customer_id,
    {DIMENSIONS.format("$6::text[]")} AS dimensions, event_time_ns, {POSITION} AS position, {MEASURED}
FROM {MEASURED_LOG} AS logged
WHERE tenant_id = $1 AND measured ? $2 AND event_time_ns >= $3 AND event_time_ns < $4
    AND properties @> $7::text::jsonb AND ($8::text = '' OR customer_id = $8) {{customer}}
ORDER BY event_time_ns LIMIT $9
"""
_OF_CUSTOMER_8 = "AND customer_id = $8"
_FIRST_NS = -(1 << 63)


class PostgresUsageStore:
    """UsageStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def meter(self, tenant_id: str, meter_id: str) -> Meter:
        async with self._database.transaction(tenant_id) as connection:
            return await read_meter(await raw(connection), tenant_id, meter_id)

    async def rows(self, selection: UsageSelection, meter: Meter, after: Cursor | None, limit: int) -> list[UsagePart]:
        arguments = Arguments()
        statement = f"{with_usage_rows(selection, meter, arguments)} SELECT {USAGE_COLUMNS} FROM usage_row"
        place = "index + others::int, customer_id, dimensions_text"
        if after is not None:
            kinds = zip(after, ("int", "text", "text"), strict=True)
            statement += f" WHERE ({place}) > ({', '.join(arguments.put(*part) for part in kinds)})"
        statement += f" ORDER BY {place} LIMIT {arguments.put(limit)}"
        return await self._parts(selection.question.tenant_id, statement, arguments)

    async def greatest(self, selection: UsageSelection, meter: Meter, limit: int) -> list[UsagePart]:
        arguments = Arguments()
        statement = (
            f"{with_usage_rows(selection, meter, arguments)} SELECT {USAGE_COLUMNS} FROM usage_row"
            f" ORDER BY {greatest_first(meter)} DESC, customer_id, dimensions_text LIMIT {arguments.put(limit)}"
        )
        return await self._parts(selection.question.tenant_id, statement, arguments)

    async def parts(self, selection: UsageSelection, meter: Meter, limit: int) -> list[UsagePart]:
        arguments = Arguments()
        statement = (
            f"{with_usage_rows(selection, meter, arguments)} SELECT {USAGE_COLUMNS} FROM usage_row"
            f" LIMIT {arguments.put(limit)}"
        )
        return await self._parts(selection.question.tenant_id, statement, arguments)

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
                orjson.dumps({item.property: item.value for item in question.filters}).decode(),
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

    async def _parts(self, tenant_id: str, statement: str, arguments: Arguments) -> list[UsagePart]:
        async with self._database.transaction(tenant_id) as connection:
            return parts_of(await (await raw(connection)).fetch(statement, *arguments.values))


def parts_of(rows: Sequence[asyncpg.Record]) -> list[UsagePart]:
    """Rows with USAGE_COLUMNS."""
    # Many rows have the same dimensions, and as a rule there are many rows.
    dimensions: dict[str, dict[str, str]] = {"": {}}
    found = []
    for scope, index, bucket, others, customer_id, text, value, event_count in rows:
        if (known := dimensions.get(text)) is None:
            known = dimensions[text] = orjson.loads(text)
        state = WindowState(event_count, value)
        found.append(UsagePart(index, bucket, others, customer_id, known, text, state, scope))
    return found
