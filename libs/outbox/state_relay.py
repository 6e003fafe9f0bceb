"""Publishes the current values of marked items."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.clock import Clock
from libs.database import Database, raw
from libs.outbox.marks import COALESCE, Mark
from libs.outbox.pace import repeat
from libs.outbox.packing import StateValue, pack_id, packs
from libs.outbox.publisher import Publisher, acknowledged, trace_headers

_logger = logging.getLogger(__name__)

_BATCH = 2000
_LEASE = timedelta(seconds=10)
_RETRY_AFTER = timedelta(seconds=1)
_IN_FLIGHT = 16
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"

# A mark that many writers change may be locked whenever the relay looks: from here on it queues up for it.
_OVERDUE = timedelta(seconds=1)
_OVERDUE_BATCH = 100

_CLAIM = """
WITH due AS (
    SELECT tenant_id, item_key FROM {{marks}} WHERE due_at <= $1 ORDER BY {order} LIMIT $3 FOR UPDATE {wait}
)
UPDATE {{marks}} AS mark SET due_at = $2 FROM due
WHERE mark.tenant_id = due.tenant_id AND mark.item_key = due.item_key
RETURNING mark.tenant_id, mark.item_key, mark.version
"""
_CLAIM_FREE = _CLAIM.format(order="due_at", wait="SKIP LOCKED")
_CLAIM_OVERDUE = _CLAIM.format(order="tenant_id, item_key", wait="")

_LOCK = """
SELECT FROM {marks} AS mark JOIN unnest($1::text[], $2::text[]) AS sent (tenant_id, item_key)
    ON mark.tenant_id = sent.tenant_id AND mark.item_key = sent.item_key
ORDER BY mark.tenant_id, mark.item_key FOR UPDATE OF mark
"""
# A later statement than the lock: only its snapshot sees the versions that the lock waited for.
_CLEAR = """
WITH sent AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS sent (tenant_id, item_key, version)),
cleared AS (
    DELETE FROM {marks} AS mark USING sent
    WHERE mark.tenant_id = sent.tenant_id AND mark.item_key = sent.item_key AND mark.version <= sent.version
)
UPDATE {marks} AS mark SET first_version = greatest(mark.first_version, sent.version + 1), due_at = $4 FROM sent
WHERE mark.tenant_id = sent.tenant_id AND mark.item_key = sent.item_key AND mark.version > sent.version
"""
_RETRY = """
UPDATE {marks} AS mark SET due_at = $4
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS unsent (tenant_id, item_key, version)
WHERE mark.tenant_id = unsent.tenant_id AND mark.item_key = unsent.item_key
"""


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
    """Claims due marks by a lease, publishes the items' current values, and clears what it has published.

    A mark is cleared only up to the version that the broker has acknowledged: a change in between keeps it. Several
    relays share the work; if one publishes an older value late, consumers keep the higher version.
    """

    def __init__(self, database: Database, publisher: Publisher, feed: StateFeed, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._feed = feed
        self._clock = clock
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self.wake = asyncio.Event()
        """Set by whoever committed marks in this process, for the relay to look at once."""
        self.published_total = 0
        self.failed_total = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until `stopping` is set."""
        await repeat(f"{self._feed.entity} relay", self._step, wake=self.wake, stopping=stopping)

    async def relay_once(self) -> int:
        """Publish the values of one batch of due marks; return how many the broker has acknowledged."""
        claimed = await self._claim()
        if not claimed:
            return 0
        wanted: dict[str, dict[str, int]] = {}
        for tenant_id, key, version in claimed:
            wanted.setdefault(tenant_id, {})[key] = version
        messages = [
            (tenant_id, pack) for tenant_id, values in (await self._read(wanted)).items() for pack in packs(values)
        ]
        outcomes = await asyncio.gather(*(self._publish(tenant_id, pack) for tenant_id, pack in messages))
        sent: list[Mark] = []
        unsent: list[Mark] = []
        for (tenant_id, pack), known in zip(messages, outcomes, strict=True):
            (sent if known else unsent).extend((tenant_id, value.key, value.version) for value in pack)
        self.published_total += len(sent)
        self.failed_total += len(unsent)
        await self._settle(_CLEAR, sent + self._vanished(wanted, sent + unsent), COALESCE)
        await self._settle(_RETRY, unsent, _RETRY_AFTER)
        return len(sent)

    async def _step(self) -> bool:
        return await self.relay_once() > 0

    async def _claim(self) -> list[Mark]:
        now = self._clock()
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            # The overdue come first: waiting for a lock while holding unordered ones could deadlock.
            rows = await self._claim_overdue(driver)
            rows += await driver.fetch(self._sql(_CLAIM_FREE), now, now + _LEASE, _BATCH)
        return [(row["tenant_id"], row["item_key"], row["version"]) for row in rows]

    async def _claim_overdue(self, driver: asyncpg.Connection) -> list[asyncpg.Record]:
        now = self._clock()
        try:
            async with driver.transaction():  # A savepoint: not getting the lock must not end the transaction.
                await driver.execute(_LOCK_TIMEOUT)
                sql = self._sql(_CLAIM_OVERDUE)
                return list(await driver.fetch(sql, now - _OVERDUE, now + _LEASE, _OVERDUE_BATCH))
        except asyncpg.LockNotAvailableError:
            _logger.warning("overdue marks of %s are locked", self._feed.entity)
            return []

    async def _read(self, wanted: Mapping[str, Mapping[str, int]]) -> dict[str, Sequence[StateValue]]:
        async with self._database.transaction(*wanted) as connection:
            return {
                tenant_id: await self._feed.read_current(connection, tenant_id, list(keys))
                for tenant_id, keys in wanted.items()
            }

    async def _publish(self, tenant_id: str, pack: Sequence[StateValue]) -> bool:
        feed = self._feed
        subject, message_id = feed.subject_for(tenant_id), pack_id(tenant_id, feed.entity, pack)
        payload = feed.pack(tenant_id, pack)
        async with self._in_flight:
            return await acknowledged(self._publisher, subject, payload, message_id, trace_headers())

    def _vanished(self, wanted: Mapping[str, Mapping[str, int]], found: Iterable[Mark]) -> list[Mark]:
        present = {(tenant_id, key) for tenant_id, key, _ in found}
        vanished = [
            (tenant_id, key, version)
            for tenant_id, keys in wanted.items()
            for key, version in keys.items()
            if (tenant_id, key) not in present
        ]
        for tenant_id, key, version in vanished:
            _logger.error("%s %s of %s is marked at version %d but gone", self._feed.entity, key, tenant_id, version)
        return vanished

    async def _settle(self, statement: str, marks: Sequence[Mark], rest: timedelta) -> None:
        """Lock marks in the order of their keys, then change them; what stays is due after `rest`."""
        if not marks:
            return
        tenants, keys, versions = map(list, zip(*marks, strict=True))
        try:
            async with self._database.queue_transaction() as connection:
                driver = await raw(connection)
                await driver.execute(_LOCK_TIMEOUT)
                await driver.execute(self._sql(_LOCK), tenants, keys)
                await driver.execute(self._sql(statement), tenants, keys, versions, self._clock() + rest)
        except asyncpg.LockNotAvailableError:
            # They are published again when their lease ends, which is harmless; waiting would hold up the others.
            _logger.warning("marks of %s are locked and stay claimed", self._feed.entity)

    def _sql(self, statement: str) -> str:
        return statement.format(marks=self._feed.table.name)
