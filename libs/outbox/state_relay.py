"""Publishes the current values of marked items."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.clock import Clock
from libs.database import Database, is_outage, raw
from libs.ids import new_id
from libs.outbox import leases
from libs.outbox.marks import Mark
from libs.outbox.pace import Pace, StepPace, repeat
from libs.outbox.packing import StateValue, pack_id, packs
from libs.outbox.publisher import Publisher, acknowledged, trace_headers

_logger = logging.getLogger(__name__)

PACE = StepPace(shortest_s=0.1, longest_s=0.1)
"""Changes of an item within a rest leave in one message."""

_MARKS_AT_ONCE = 10_000
_REMEMBERED = 50_000
_IN_FLIGHT = 16

_LAST = "SELECT max(version) FROM {marks}"
_READ = """
SELECT tenant_id, item_key, version FROM {marks} WHERE version > $1 AND version <= $2 ORDER BY version LIMIT $3
"""
_DELETE = "DELETE FROM {marks} WHERE version = ANY ($1::bigint[])"

_Item = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StateFeed:
    """What a service says about one kind of state.

    `entity` names it in message ids. `read_current` returns the committed values of some keys of one tenant, in a
    transaction that sees that tenant, leaving out keys that no longer exist. `pack` encodes up to 500 values of a
    tenant as one message; `subject_for` names the subject of a tenant's messages.
    """

    entity: str
    table: sa.Table
    read_current: Callable[[AsyncConnection, str, Sequence[str]], Awaitable[Sequence[StateValue]]]
    pack: Callable[[str, Sequence[StateValue]], bytes]
    subject_for: Callable[[str], str]


class StateRelay:
    """Walks over the marks, publishes the items' current values, and deletes the marks that these cover.

    A mark is deleted when the broker has acknowledged a value that was read after the mark was: that value includes
    its change. A change meanwhile has a mark of its own. One relay works at a time, by a lease; if two do, consumers
    keep the higher versions.
    """

    def __init__(
        self, database: Database, publisher: Publisher, feed: StateFeed, clock: Clock, pace: Pace = PACE
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._feed = feed
        self._clock = clock
        self._pace = pace
        self._holder = new_id("relay")
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self.wake = asyncio.Event()
        """Set by whoever committed marks in this process, for the relay to look at once."""
        self.published_total = 0
        self.failed_total = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until `stopping` is set, then leave the work to another relay."""

        async def step() -> bool:
            return await self.relay_once(stopping) > 0

        await repeat(f"{self._feed.entity} relay", step, wake=self.wake, stopping=stopping, pace=self._pace)
        await self._release()

    async def relay_once(self, stopping: asyncio.Event | None = None) -> int:
        """Publish the values of all items marked by now, or of some if `stopping` is set meanwhile; return how many
        the broker has acknowledged."""
        before, after, last = self.published_total, 0, await self._last()
        published: dict[_Item, int] = {}
        while after < last and not (stopping and stopping.is_set()):
            marks = await self._read_marks(after, last)
            if not marks:
                break
            after = marks[-1][2]
            if len(published) > _REMEMBERED:
                published.clear()
            # Marks come by rising version, so an item's last one stays.
            wanted = {mark[:2]: mark[2] for mark in marks if mark[2] > published.get(mark[:2], 0)}
            published |= await self._publish_current(wanted)
            await self._delete([mark[2] for mark in marks if mark[2] <= published.get(mark[:2], 0)])
        return self.published_total - before

    async def _last(self) -> int:
        async with self._database.queue_transaction() as connection:
            last: int | None = await (await raw(connection)).fetchval(self._sql(_LAST))
        return last or 0

    async def _read_marks(self, after: int, last: int) -> list[Mark]:
        """The next marks, if it is this relay's turn."""
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            if not await leases.hold(driver, self._feed.table.name, self._holder, self._clock()):
                return []
            rows = await driver.fetch(self._sql(_READ), after, last, _MARKS_AT_ONCE)
        return [(row[0], row[1], row[2]) for row in rows]

    async def _publish_current(self, wanted: Mapping[_Item, int]) -> dict[_Item, int]:
        """Return the versions that are published; those of items that are gone count as published."""
        if not wanted:
            return {}
        keys: dict[str, list[str]] = {}
        for tenant_id, key in wanted:
            keys.setdefault(tenant_id, []).append(key)
        values = await self._read_values(keys)
        messages = [(tenant_id, pack) for tenant_id, found in values.items() for pack in packs(found)]
        outcomes = await asyncio.gather(*(self._publish(tenant_id, pack) for tenant_id, pack in messages))
        acked: dict[_Item, int] = {}
        unsent = 0
        for (tenant_id, pack), known in zip(messages, outcomes, strict=True):
            if known:
                acked |= {(tenant_id, value.key): value.version for value in pack}
            else:
                unsent += len(pack)
        self.published_total += len(acked)
        self.failed_total += unsent
        if len(acked) + unsent < len(wanted):
            present = {(tenant_id, value.key) for tenant_id, found in values.items() for value in found}
            acked |= self._vanished({item: version for item, version in wanted.items() if item not in present})
        return acked

    async def _read_values(self, keys: Mapping[str, Sequence[str]]) -> dict[str, Sequence[StateValue]]:
        async with self._database.transaction(*keys) as connection:
            return {
                tenant_id: await self._feed.read_current(connection, tenant_id, wanted)
                for tenant_id, wanted in keys.items()
            }

    async def _publish(self, tenant_id: str, pack: Sequence[StateValue]) -> bool:
        feed = self._feed
        subject, message_id = feed.subject_for(tenant_id), pack_id(tenant_id, feed.entity, pack)
        payload = feed.pack(tenant_id, pack)
        async with self._in_flight:
            return await acknowledged(self._publisher, subject, payload, message_id, trace_headers())

    def _vanished(self, gone: Mapping[_Item, int]) -> Mapping[_Item, int]:
        for (tenant_id, key), version in gone.items():
            _logger.error("%s %s of %s is marked at version %d but gone", self._feed.entity, key, tenant_id, version)
        return gone

    async def _delete(self, versions: Sequence[int]) -> None:
        if versions:
            async with self._database.queue_transaction() as connection:
                await (await raw(connection)).execute(self._sql(_DELETE), versions)

    async def _release(self) -> None:
        try:
            async with self._database.queue_transaction() as connection:
                await leases.release(await raw(connection), self._feed.table.name, self._holder, self._clock())
        except Exception as error:
            if not is_outage(error):
                raise
            _logger.info("the lease of %s runs out by itself: %r", self._feed.entity, error)

    def _sql(self, statement: str) -> str:
        return statement.format(marks=self._feed.table.name)
