"""The sealer's transactions: link what was recorded, seal hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.door import to_ns
from services.ingest.domain.log_chain import HOUR, BatchEntry, ChainHead, HourEntry, entry_hash, hour_of
from services.ingest.store import sealing_sql as sql
from services.ingest.store.log_entries import entries_of

_HOURS_AT_ONCE = 24
FIRST_SEAL = "first"


class PostgresSealing:
    """Sealing over the worker's database."""

    def __init__(self, database: Database, batches_at_once: int = 1_000) -> None:
        self._database = database
        self._batches_at_once = batches_at_once

    async def watermark(self) -> datetime | None:
        async with self._database.queue_transaction() as connection:
            found: datetime | None = await (await raw(connection)).fetchval(sql.WATERMARK)
        return found

    async def tenants(self, due: datetime, due_of: Mapping[str, datetime]) -> Sequence[str]:
        async with self._database.queue_transaction() as connection:
            rows = await (await raw(connection)).fetch(sql.TENANTS, due, list(due_of), list(due_of.values()))
        return [row["tenant_id"] for row in rows]

    async def seal(self, tenant_id: str, due: datetime, now: datetime) -> bool:
        try:
            async with self._database.snapshot(tenant_id) as connection:
                driver = await raw(connection)
                if not await driver.fetchval(sql.TRY_LOCK, tenant_id):
                    return False
                return await _Step(driver, tenant_id, now, await _head(driver, tenant_id)).run(
                    due, self._batches_at_once
                )
        except asyncpg.UniqueViolationError:
            # The snapshot is older than the lock: another process has linked at this position meanwhile.
            return True


@dataclass(slots=True)
class _Step:
    """One transaction of a tenant; `head` moves on with each link."""

    driver: asyncpg.Connection
    tenant_id: str
    now: datetime
    head: ChainHead

    async def run(self, due: datetime, batches_at_once: int) -> bool:
        """Link, then seal what has changed, then seal what is due if nothing recorded waits to be linked.

        The order is what late means: whatever the first seal of an hour contains is linked before it.
        """
        through = await self._through()
        linked = await self._link_batches(through, batches_at_once)
        changed = await self._seal_changed(through)
        if linked == batches_at_once or changed == _HOURS_AT_ONCE:
            return True
        return await self._seal_due(through, due)

    async def _through(self) -> datetime:
        row = await self.driver.fetchrow(sql.THROUGH, self.tenant_id)
        if row is None:
            row = await self.driver.fetchrow(sql.BEGIN_THROUGH, self.tenant_id)
        through: datetime = row["hour_start"]
        return through

    async def _link_batches(self, through: datetime, limit: int) -> int:
        rows = await self.driver.fetch(sql.QUEUED_BATCHES, self.tenant_id, limit)
        if not rows:
            return 0
        entries = await entries_of(self.driver, self.tenant_id, rows)
        limit_ns = to_ns(through)
        late = [entry for entry in entries if _may_be_late(entry, limit_ns)]
        if late:
            received, ids = [entry.received_at for entry in late], [entry.batch_id for entry in late]
            await self.driver.execute(sql.LATE_HOURS, self.tenant_id, received, ids, limit_ns)
        await self._link(entries)
        await self.driver.execute(sql.TAKE_BATCHES, self.tenant_id, [entry.batch_id for entry in entries])
        return len(entries)

    async def _seal_changed(self, through: datetime) -> int:
        rows = await self.driver.fetch(sql.CHANGED_HOURS, self.tenant_id, through, _HOURS_AT_ONCE)
        if not rows:
            return 0
        await self._seal({row["hour_start"]: row["cause"] for row in rows})
        seen = [(row["hour_start"], entry_id) for row in rows for entry_id in row["entry_ids"]]
        hours, ids = [hour for hour, _ in seen], [entry_id for _, entry_id in seen]
        await self.driver.execute(sql.TAKE_HOURS, self.tenant_id, hours, ids)
        return len(rows)

    async def _seal_due(self, through: datetime, due: datetime) -> bool:
        """Seal some hours that are due for the first time; return whether there are more."""
        if due <= through:
            return False
        first: datetime | None = await self.driver.fetchval(sql.FIRST_WINDOW, self.tenant_id, through)
        if first is None or first >= due:
            await self.driver.execute(sql.SET_THROUGH, self.tenant_id, due)
            return False
        start = hour_of(first)
        end = min(start + _HOURS_AT_ONCE * HOUR, due)
        count = (end - start) // HOUR
        await self._seal({start + number * HOUR: FIRST_SEAL for number in range(count)})
        await self.driver.execute(sql.SET_THROUGH, self.tenant_id, end)
        return end < due

    async def _seal(self, causes: Mapping[datetime, str]) -> None:
        rows = await self.driver.fetch(sql.SEAL, self.tenant_id, list(causes))
        if not rows:
            return
        seals = [
            HourEntry(self.tenant_id, hour, version, causes[hour], events, windows, digest, self.now)
            for hour, version, events, windows, digest in rows
        ]
        positions = await self._link(seals)
        await self.driver.execute(
            sql.ADD_SEALS,
            self.tenant_id,
            [seal.hour_start for seal in seals],
            [seal.version for seal in seals],
            positions,
            [seal.cause for seal in seals],
            [seal.event_count for seal in seals],
            [seal.window_count for seal in seals],
            [seal.windows_digest for seal in seals],
            self.now,
        )

    async def _link(self, entries: Sequence[BatchEntry] | Sequence[HourEntry]) -> list[int]:
        """Add entries to the chain; return their positions."""
        columns: list[tuple[object, ...]] = []
        for entry in entries:
            hashed = entry_hash(entry.content())
            self.head = self.head.linked(hashed, self.now)
            named = (
                ("batch", entry.batch_id, None, None)
                if isinstance(entry, BatchEntry)
                else ("hour", None, entry.hour_start, entry.version)
            )
            columns.append((self.head.position, *named, hashed, self.head.chain_hash))
        await self.driver.execute(
            sql.ADD_LINKS, self.tenant_id, *(list(column) for column in zip(*columns, strict=True)), self.now
        )
        return list(range(self.head.position - len(entries) + 1, self.head.position + 1))


async def _head(driver: asyncpg.Connection, tenant_id: str) -> ChainHead:
    row = await driver.fetchrow(sql.HEAD, tenant_id)
    return ChainHead.start(tenant_id) if row is None else ChainHead(row["position"], row["chain_hash"])


def _may_be_late(entry: BatchEntry, limit_ns: int) -> bool:
    """Old code did not note the oldest event: then it is looked up."""
    recorded = entry.fates[0]
    return recorded > 0 and (entry.oldest_ns is None or entry.oldest_ns < limit_ns)
