"""The sealed log in PostgreSQL, as its tenant reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.batch_digest import LoggedEvent
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.log_chain import HOUR, BatchEntry, ChainHead, hour_of
from services.ingest.domain.usage_batch import MAX_BATCH_EVENTS
from services.ingest.store import log_sql as sql
from services.ingest.store import sealing_sql
from services.ingest.store.log_entries import entries_of, hour_entry
from services.ingest.usecases.log_ports import EventPlace, HourState, Link, LogHead, LogTotals, Seal, SealSum

_HOURS_AT_ONCE = 24
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresLogStore:
    """LogStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self, tenant_id: str) -> LogHead:
        async with self._database.transaction(tenant_id) as connection:
            row = await (await raw(connection)).fetchrow(sql.HEAD, tenant_id)
        start = ChainHead.start(tenant_id)
        head = start if row["position"] is None else ChainHead(row["position"], row["chain_hash"])
        through = row["sealed_through"]
        return LogHead(head, row["linked_at"], None if through == _BEGINNING else through, row["queued"])

    async def chain_hash(self, tenant_id: str, position: int) -> bytes | None:
        async with self._database.transaction(tenant_id) as connection:
            found: bytes | None = await (await raw(connection)).fetchval(sql.CHAIN_HASH, tenant_id, position)
        return found

    async def links(self, tenant_id: str, after: int, through: int, limit: int) -> list[Link]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            return await _links(driver, tenant_id, await driver.fetch(sql.LINKS, tenant_id, after, through, limit))

    async def links_at(self, tenant_id: str, positions: Sequence[int]) -> dict[int, Link]:
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            links = await _links(driver, tenant_id, await driver.fetch(sql.LINKS_AT, tenant_id, positions))
        return {link.position: link for link in links}

    async def events(self, tenant_id: str, batches: Sequence[BatchEntry]) -> Mapping[int, list[LoggedEvent]]:
        received, ids = [batch.received_at for batch in batches], [batch.batch_id for batch in batches]
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(sql.EVENTS, tenant_id, received, ids, MAX_BATCH_EVENTS + 1)
        found: dict[int, list[LoggedEvent]] = {batch_id: [] for batch_id in ids}
        for batch_id, *content in rows:
            found[batch_id].append(LoggedEvent(*content))
        return found

    async def hours(self, tenant_id: str, start: datetime | None) -> list[HourState]:
        async with self._database.snapshot(tenant_id) as connection:
            driver = await raw(connection)
            through = await driver.fetchval(sealing_sql.THROUGH, tenant_id)
            first = await driver.fetchval(sql.NEXT_HOUR, tenant_id, start or _BEGINNING)
            if through is None or first is None or hour_of(first) >= through:
                return []
            start = hour_of(first)
            count = min(_HOURS_AT_ONCE, (through - start) // HOUR)
            hours = [start + number * HOUR for number in range(count)]
            rows = await driver.fetch(sql.HOURS, tenant_id, hours)
            return [await _hour_state(driver, tenant_id, row) for row in rows]

    async def totals(self, tenant_id: str) -> LogTotals:
        async with self._database.transaction(tenant_id) as connection:
            return LogTotals(*(await (await raw(connection)).fetchrow(sql.TOTALS, tenant_id)))

    async def seals(
        self, tenant_id: str, before: tuple[datetime, int] | None, limit: int, *, latest_only: bool
    ) -> list[Seal]:
        arguments = (tenant_id, *(before or (None, None)), latest_only, limit)
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(sql.SEALS, *arguments)
        return [_seal(tenant_id, row) for row in rows]

    async def seal(self, tenant_id: str, hour_start: datetime, version: int) -> Seal | None:
        async with self._database.transaction(tenant_id) as connection:
            row = await (await raw(connection)).fetchrow(sql.SEAL, tenant_id, hour_start, version)
        return None if row is None else _seal(tenant_id, row)

    async def sums(
        self, tenant_id: str, hour_start: datetime, version: int, after: tuple[str, str] | None, limit: int
    ) -> list[SealSum]:
        arguments = (tenant_id, hour_start, version, *(after or (None, None)), limit)
        async with self._database.transaction(tenant_id) as connection:
            return [SealSum(*row) for row in await (await raw(connection)).fetch(sql.SUMS, *arguments)]

    async def places(self, tenant_id: str, keys: Sequence[EventKey]) -> list[EventPlace | None]:
        sources, ids = [source for source, _ in keys], [event_id for _, event_id in keys]
        found: list[EventPlace | None] = [None] * len(keys)
        async with self._database.transaction(tenant_id) as connection:
            for place, *content in await (await raw(connection)).fetch(sql.PLACES, tenant_id, sources, ids):
                found[place - 1] = EventPlace(keys[place - 1], *content)
        return found


async def _hour_state(driver: asyncpg.Connection, tenant_id: str, row: asyncpg.Record) -> HourState:
    """Names what differs; as a rule nothing does."""
    hour, version = row["hour_start"], row["version"]
    if not row["differs"] or row["unsettled"]:
        return HourState(hour, version, not row["differs"], row["unsettled"])
    at = await driver.fetchrow(sql.DIFFERS_AT, tenant_id, [hour], version)
    return HourState(hour, version, agrees=False, differs_at=None if at is None else tuple(at))


async def _links(driver: asyncpg.Connection, tenant_id: str, rows: Sequence[asyncpg.Record]) -> list[Link]:
    ids = [row["batch_id"] for row in rows if row["batch_id"] is not None]
    hours = [(row["hour_start"], row["hour_version"]) for row in rows if row["hour_start"] is not None]
    batch_rows = await driver.fetch(sealing_sql.BATCHES, tenant_id, ids) if ids else []
    batches = {entry.batch_id: entry for entry in await entries_of(driver, tenant_id, batch_rows)}
    seals = {}
    if hours:
        columns = [hour for hour, _ in hours], [version for _, version in hours]
        found = await driver.fetch(sql.SEALS_OF_LINKS, tenant_id, *columns)
        seals = {(row["hour_start"], row["version"]): row for row in found}
    links = []
    for row in rows:
        said = (row["entry_hash"], row["chain_hash"], row["linked_at"])
        if row["batch_id"] is not None:
            name = f"batch {row['batch_id']}"
            links.append(Link(row["position"], name, *said, batches.get(row["batch_id"])))
            continue
        name = f"seal {row['hour_start']:%Y-%m-%dT%H:%MZ} version {row['hour_version']}"
        seal = seals.get((row["hour_start"], row["hour_version"]))
        covered = (None,) if seal is None else (hour_entry(tenant_id, seal), seal["sums_digest"], seal["position"])
        links.append(Link(row["position"], name, *said, *covered))
    return links


def _seal(tenant_id: str, row: asyncpg.Record) -> Seal:
    return Seal(hour_entry(tenant_id, row), row["position"], row["chain_hash"])
