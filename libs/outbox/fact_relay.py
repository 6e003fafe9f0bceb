"""Publishes the facts of the outbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from libs.clock import Clock
from libs.database import Database, raw
from libs.outbox.facts import FactTables
from libs.outbox.pace import repeat
from libs.outbox.publisher import Publisher, acknowledged

_logger = logging.getLogger(__name__)

_BATCH = 200
_LEASE = timedelta(seconds=30)
_SHORTEST_RETRY = timedelta(seconds=1)
_LONGEST_RETRY = timedelta(minutes=1)

KEPT = timedelta(days=7)
_PRUNED_AT_ONCE = 500
_PRUNE_EVERY = timedelta(minutes=1)
_PRUNE_AGAIN_AFTER = timedelta(seconds=1)  # While there is more: deleting must not crowd out the work.

_CLAIM = """
WITH due AS (
    SELECT id FROM {queue} WHERE published_at IS NULL AND due_at <= $1
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE {queue} AS queued SET due_at = $2 FROM due WHERE queued.id = due.id
RETURNING queued.id, queued.tenant_id, queued.event_id
"""
_READ = """
SELECT wanted.id, fact.event_id, fact.subject, fact.payload, fact.trace_headers, fact.created_at
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS wanted (id, tenant_id, event_id)
JOIN {facts} AS fact USING (tenant_id, event_id)
ORDER BY wanted.id
"""
_PUBLISHED = "UPDATE {queue} SET published_at = $2 WHERE id = ANY ($1::bigint[])"
_RETRY = """
UPDATE {queue} AS queued SET due_at = retried.due_at
FROM unnest($1::bigint[], $2::timestamptz[]) AS retried (id, due_at)
WHERE queued.id = retried.id AND queued.published_at IS NULL
"""
_OLD = """
SELECT id, tenant_id, event_id FROM {queue} WHERE published_at < $1
ORDER BY published_at LIMIT $2
"""
_DELETE_FACTS = """
DELETE FROM {facts} AS fact USING unnest($1::text[], $2::text[]) AS old (tenant_id, event_id)
WHERE fact.tenant_id = old.tenant_id AND fact.event_id = old.event_id
"""
_DELETE_QUEUED = "DELETE FROM {queue} WHERE id = ANY ($1::bigint[])"


class FactRelay:
    """Claims due facts by a lease, publishes them, and only then records that they are published.

    No transaction is open during a publish. Several relays share the work; one that dies leaves its claims to the
    others when the lease ends. Facts are kept for 7 days after their publication, then deleted in small batches.
    """

    def __init__(self, database: Database, publisher: Publisher, tables: FactTables, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._names = {"facts": tables.facts.name, "queue": tables.queue.name}
        self._clock = clock
        self._prune_at = clock()
        self.wake = asyncio.Event()
        """Set by whoever committed facts in this process, for the relay to look at once."""
        self.published_total = 0
        self.failed_total = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until `stopping` is set."""
        await repeat("fact relay", self._step, wake=self.wake, stopping=stopping)

    async def relay_once(self) -> int:
        """Publish one batch of due facts; return how many the broker has acknowledged."""
        claimed = await self._claim()
        if not claimed:
            return 0
        facts = await self._read(claimed)
        outcomes = await asyncio.gather(*map(self._publish, facts))
        published = [fact["id"] for fact, acknowledged in zip(facts, outcomes, strict=True) if acknowledged]
        failed = [fact for fact, acknowledged in zip(facts, outcomes, strict=True) if not acknowledged]
        await self._record(published, failed)
        return len(published)

    async def prune(self, before: datetime) -> int:
        """Delete one batch of facts published before an instant; return its size."""
        async with self._database.queue_transaction() as connection:
            old = await (await raw(connection)).fetch(self._sql(_OLD), before, _PRUNED_AT_ONCE)
        if not old:
            return 0
        tenants = [row["tenant_id"] for row in old]
        async with self._database.transaction(*tenants) as connection:
            driver = await raw(connection)
            await driver.execute(self._sql(_DELETE_FACTS), tenants, [row["event_id"] for row in old])
            await driver.execute(self._sql(_DELETE_QUEUED), [row["id"] for row in old])
        return len(old)

    async def _step(self) -> bool:
        published = await self.relay_once()
        now = self._clock()
        if now >= self._prune_at:
            more = await self.prune(now - KEPT) == _PRUNED_AT_ONCE
            self._prune_at = now + (_PRUNE_AGAIN_AFTER if more else _PRUNE_EVERY)
        return published > 0

    async def _claim(self) -> Sequence[asyncpg.Record]:
        now = self._clock()
        async with self._database.queue_transaction() as connection:
            return list(await (await raw(connection)).fetch(self._sql(_CLAIM), now, now + _LEASE, _BATCH))

    async def _read(self, claimed: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
        columns = [[row[name] for row in claimed] for name in ("id", "tenant_id", "event_id")]
        async with self._database.transaction(*columns[1]) as connection:
            facts = list(await (await raw(connection)).fetch(self._sql(_READ), *columns))
        if len(facts) < len(claimed):
            lost = {row["event_id"] for row in claimed} - {fact["event_id"] for fact in facts}
            _logger.error("queued facts are not in the outbox: %s", sorted(lost))
        return facts

    async def _publish(self, fact: asyncpg.Record) -> bool:
        message = (fact["subject"], fact["payload"], fact["event_id"], fact["trace_headers"])
        return await acknowledged(self._publisher, *message)

    async def _record(self, published: Sequence[int], failed: Sequence[asyncpg.Record]) -> None:
        self.published_total += len(published)
        self.failed_total += len(failed)
        now = self._clock()
        # Half of a fact's age, between a second and a minute: growing delays without a counter.
        retries = [now + min(max((now - fact["created_at"]) / 2, _SHORTEST_RETRY), _LONGEST_RETRY) for fact in failed]
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            await driver.execute(self._sql(_PUBLISHED), published, now)
            await driver.execute(self._sql(_RETRY), [fact["id"] for fact in failed], retries)

    def _sql(self, statement: str) -> str:
        return statement.format(**self._names)
