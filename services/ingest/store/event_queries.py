"""Events, exceptions and counts in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.door import to_ns
from services.ingest.domain.event_trace import EventTrace, trace_event
from services.ingest.domain.recording import Fate
from services.ingest.domain.stored_event import EventCounts, EventKey, EventStatus, StoredEvent, StoredException
from services.ingest.store.batch_statuses import read_batch_statuses
from services.ingest.store.corrections import correction_from_row
from services.ingest.store.event_exceptions import exception_from_row
from services.ingest.store.measured_log import MEASURED_IN_ALL
from services.ingest.store.meters import read_meters
from services.ingest.usecases.errors import EventNotFound
from services.ingest.usecases.query_events import BatchStatus, EventSelection, Receipt

_EVENT = f"""
SELECT event.source, event.event_id, event.event_type, event.customer_id, event.event_time_ns, event.properties,
    event.received_at, batches.accepted_at, {MEASURED_IN_ALL} AS measured, event.batch_id, event.ordinal,
    NOT EXISTS (SELECT FROM known_customers AS known WHERE (known.tenant_id, known.customer_id)
        = (event.tenant_id, event.customer_id)) AS unassigned,
    mark.kind, mark.replacement_source, mark.replacement_event_id, mark.reason, mark.actor, mark.api_key_id,
    mark.corrected_at, origin.source AS replaces_source, origin.event_id AS replaces_event_id,
    coalesce((
        SELECT seal.cause <> 'first' OR link.position > seal.position
        FROM hour_seals AS seal JOIN log_links AS link USING (tenant_id)
        WHERE (seal.tenant_id, seal.hour_start, seal.version)
                = (event.tenant_id, to_timestamp(event.event_time_ns / 3600000000000 * 3600), 1)
            AND link.batch_id = event.batch_id), false) AS late
FROM events AS event JOIN batches USING (tenant_id, batch_id)
LEFT JOIN corrections AS mark ON (mark.tenant_id, mark.source, mark.event_id)
    = (event.tenant_id, event.source, event.event_id)
LEFT JOIN corrections AS origin ON (origin.tenant_id, origin.replacement_source, origin.replacement_event_id)
    = (event.tenant_id, event.source, event.event_id)
"""  # noqa: S608 - of constants
_ONE = f"""
{_EVENT} JOIN event_keys AS key ON (event.tenant_id, event.received_at, event.batch_id, event.ordinal)
    = (key.tenant_id, key.received_at, key.batch_id, key.ordinal)
WHERE key.tenant_id = $1 AND key.source = $2 AND key.event_id = $3
"""
_SEVERAL = f"""
{_EVENT} JOIN (
    SELECT place.tenant_id, place.received_at, place.batch_id, place.ordinal
    FROM unnest($2::text[], $3::text[]) AS wanted (source, event_id)
    CROSS JOIN LATERAL (
        SELECT tenant_id, received_at, batch_id, ordinal FROM event_keys
        WHERE tenant_id = $1 AND source = wanted.source AND event_id = wanted.event_id OFFSET 0
    ) AS place
) AS key ON (event.tenant_id, event.received_at, event.batch_id, event.ordinal)
    = (key.tenant_id, key.received_at, key.batch_id, key.ordinal)
"""  # noqa: S608 - of constants
_ORDERED = " ORDER BY event.event_time_ns DESC, event.batch_id DESC, event.ordinal DESC LIMIT "
_RECORDED = f"""
SELECT wanted.position, ARRAY(SELECT jsonb_object_keys({MEASURED_IN_ALL}) ORDER BY 1) AS meter_ids
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (source, event_id, position)
JOIN event_keys AS key ON key.tenant_id = $1 AND key.source = wanted.source AND key.event_id = wanted.event_id
JOIN events AS event ON (event.tenant_id, event.received_at, event.batch_id, event.ordinal)
    = (key.tenant_id, key.received_at, key.batch_id, key.ordinal)
"""  # noqa: S608 - of constants
_DUPLICATES = """
SELECT wanted.position, times
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (source, event_id, position)
JOIN event_duplicates AS sent
    ON sent.tenant_id = $1 AND sent.source = wanted.source AND sent.event_id = wanted.event_id
"""
_EXCEPTIONS_OF = """
SELECT wanted.position, found.source, found.event_id, verdict, field, reason, description, received_at, customer_id,
    batch_id, ordinal
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (source, event_id, position)
CROSS JOIN LATERAL (
    SELECT source, event_id, verdict, field, reason, description, received_at, customer_id, batch_id, ordinal
    FROM event_exceptions AS kept
    WHERE kept.tenant_id = $1 AND kept.source = wanted.source AND kept.event_id = wanted.event_id
    ORDER BY received_at DESC, batch_id DESC, ordinal DESC LIMIT 10
) AS found
"""
_EXCEPTIONS = """
SELECT source, event_id, verdict, field, reason, description, received_at, customer_id, batch_id, ordinal
FROM event_exceptions
WHERE tenant_id = $1
    AND ($2::timestamptz IS NULL OR (received_at, batch_id, ordinal) < ($2, $3::bigint, $4::int))
ORDER BY received_at DESC, batch_id DESC, ordinal DESC LIMIT $5
"""
COUNTS = """
SELECT coalesce(sum(accepted_total), 0)::bigint AS accepted,
    coalesce(sum(rejected_total), 0)::bigint AS rejected_at_door,
    coalesce(sum(recorded), 0)::bigint AS recorded, coalesce(sum(duplicate), 0)::bigint AS duplicate,
    coalesce(sum(conflict), 0)::bigint AS conflict, coalesce(sum(rejected), 0)::bigint AS rejected_by_recorder,
    (SELECT coalesce(sum(event_count), 0)::bigint FROM event_customers AS sent WHERE sent.tenant_id = $1
        AND NOT EXISTS (SELECT FROM known_customers AS known WHERE (known.tenant_id, known.customer_id)
            = (sent.tenant_id, sent.customer_id))) AS unassigned
FROM acceptor_counters WHERE tenant_id = $1
"""


class PostgresEventStore:
    """EventStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def event(self, tenant_id: str, key: EventKey) -> StoredEvent:
        async with self._database.transaction(tenant_id) as connection:
            row = await (await raw(connection)).fetchrow(_ONE, tenant_id, *key)
        if row is None:
            raise EventNotFound(f"no event {key[1]} of {key[0]} is recorded", source=key[0], eventId=key[1])
        return _event(row)

    async def events(
        self, tenant_id: str, selection: EventSelection, before: tuple[int, int, int] | None, limit: int
    ) -> list[StoredEvent]:
        conditions, arguments = _conditions(tenant_id, selection, before)
        arguments.append(limit)
        query = f"{_EVENT} WHERE {' AND '.join(conditions)} {_ORDERED} ${len(arguments)}"  # Of constants only.
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(query, *arguments)
        return [_event(row) for row in rows]

    async def statuses(self, tenant_id: str, keys: Sequence[EventKey]) -> list[EventStatus]:
        wanted = (tenant_id, [source for source, _ in keys], [event_id for _, event_id in keys])
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            recorded = {row["position"]: row["meter_ids"] for row in await driver.fetch(_RECORDED, *wanted)}
            duplicates = {row["position"]: row["times"] for row in await driver.fetch(_DUPLICATES, *wanted)}
            exceptions: dict[int, list[StoredException]] = {}
            for row in await driver.fetch(_EXCEPTIONS_OF, *wanted):
                exceptions.setdefault(row["position"], []).append(exception_from_row(row))
        return [
            EventStatus(
                key=key,
                fate=Fate.RECORDED if at in recorded else Fate.REJECTED if at in exceptions else None,
                exceptions=exceptions.get(at, []),
                duplicates=duplicates.get(at, 0),
                meter_ids=recorded.get(at, []),
            )
            for at, key in enumerate(keys, start=1)
        ]

    async def traces(self, tenant_id: str, keys: Sequence[EventKey]) -> dict[EventKey, EventTrace]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            rows = await driver.fetch(
                _SEVERAL, tenant_id, [source for source, _ in keys], [event_id for _, event_id in keys]
            )
            meters = await read_meters(driver, tenant_id)
        return {(row["source"], row["event_id"]): trace_event(_event(row), meters) for row in rows}

    async def batch_statuses(self, tenant_id: str, receipts: Sequence[Receipt]) -> list[BatchStatus]:
        async with self._database.transaction(tenant_id) as connection:
            return await read_batch_statuses(await raw(connection), tenant_id, receipts)

    async def exceptions(
        self, tenant_id: str, before: tuple[datetime, int, int] | None, limit: int
    ) -> list[StoredException]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_EXCEPTIONS, tenant_id, *(before or (None, None, None)), limit)
        return [exception_from_row(row) for row in rows]

    async def counts(self, tenant_id: str) -> EventCounts:
        async with self._database.transaction(tenant_id) as connection:
            row = await (await raw(connection)).fetchrow(COUNTS, tenant_id)
        return counts_from_row(row)


def counts_from_row(row: asyncpg.Record) -> EventCounts:
    """A row that has the columns of COUNTS."""
    return EventCounts(
        accepted=row["accepted"],
        rejected_at_door=row["rejected_at_door"],
        recorded=row["recorded"],
        duplicate=row["duplicate"],
        conflict=row["conflict"],
        rejected_by_recorder=row["rejected_by_recorder"],
        unassigned=row["unassigned"],
    )


def _conditions(
    tenant_id: str, selection: EventSelection, before: tuple[int, int, int] | None
) -> tuple[list[str], list[object]]:
    conditions = ["event.tenant_id = $1"]
    found: list[tuple[str, object]] = []
    if selection.customer_id:
        found.append(("event.customer_id = {}", selection.customer_id))
    if selection.event_type:
        found.append(("event.event_type = {}", selection.event_type))
    if selection.start is not None:
        found.append(("event.event_time_ns >= {}", to_ns(selection.start)))
    if selection.end is not None:
        found.append(("event.event_time_ns < {}", to_ns(selection.end)))
    values: list[object] = [tenant_id]
    for condition, value in found:
        values.append(value)
        conditions.append(condition.format(f"${len(values)}"))
    if selection.unassigned_only:
        conditions.append(
            "NOT EXISTS (SELECT FROM known_customers AS known WHERE (known.tenant_id, known.customer_id)"
            " = (event.tenant_id, event.customer_id))"
        )
    if before is not None:
        first = len(values) + 1
        values += before
        place = ", ".join(f"${number}" for number in range(first, first + 3))
        conditions.append(f"(event.event_time_ns, event.batch_id, event.ordinal) < ({place})")
    return conditions, values


def _event(row: asyncpg.Record) -> StoredEvent:
    return StoredEvent(
        source=row["source"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        customer_id=row["customer_id"],
        time_ns=row["event_time_ns"],
        properties=row["properties"],
        received_at=row["received_at"],
        accepted_at=row["accepted_at"],
        measured=row["measured"],
        unassigned=row["unassigned"],
        batch_id=row["batch_id"],
        ordinal=row["ordinal"],
        correction=correction_from_row(row) if row["kind"] else None,
        replaces=(row["replaces_source"], row["replaces_event_id"]) if row["replaces_source"] else None,
        late=row["late"],
    )
