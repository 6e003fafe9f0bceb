"""The worker's side of replays in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.meter import Meter
from services.ingest.domain.replays import LaterReading, LoggedEvents, Replay, ReplayScope
from services.ingest.store.meter_changes import STOP_COUNTING
from services.ingest.store.meters import read_meters
from services.ingest.store.replay_comparison import compare_slice, count_events, keep_readings, read_page
from services.ingest.store.replay_rows import read_replay, save_replay
from services.ingest.store.replay_swap import swap_portion
from services.ingest.usecases.replay_ports import (
    ComparedSlice,
    LogPage,
    QueuedReplay,
    ReplayChanged,
    SwappedPortion,
    WindowPosition,
)

_REPLAYS_AT_ONCE = 10
_FORGET_AT_ONCE = 20_000
WITH_DIFFERENCES = 20
"""So many replays of a tenant keep theirs."""

_DUE = "SELECT tenant_id, replay_id FROM replay_queue WHERE due_at <= $1 ORDER BY due_at LIMIT $2"
_TAKE = "SELECT true FROM replay_queue WHERE (tenant_id, replay_id) = ($1, $2) FOR UPDATE SKIP LOCKED"
_BACK_INTO_LINE = "UPDATE replay_queue SET due_at = $3 WHERE (tenant_id, replay_id) = ($1, $2)"
_LEAVE = "DELETE FROM replay_queue WHERE (tenant_id, replay_id) = ($1, $2)"
# A slice is put together in memory, one at a time; by default it would be sorted on disk. Places are wide and are
# compared faster by hashes than by sorting windows and readings alike.
_MEMORY = "SET LOCAL work_mem = '64MB'; SET LOCAL enable_mergejoin = off"
_FORGET = """
DELETE FROM replay_measurements WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM replay_measurements WHERE tenant_id = $1 AND replay_id = $2 LIMIT $3))
"""
# Of the newest replays the differences stay readable; what is shown of others are their counts.
_FORGET_DIFFERENCES = """
DELETE FROM replay_windows WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM replay_windows WHERE tenant_id = $1 AND replay_id <= (
        SELECT replay_id FROM replays WHERE tenant_id = $1 ORDER BY replay_id DESC LIMIT 1 OFFSET $2)
    LIMIT $3))
"""
_FAILED = """
UPDATE replays SET attempts = attempts + 1, updated_at = $4,
    state = CASE WHEN attempts + 1 >= $5 AND ended_at IS NULL THEN 'failed' ELSE state END,
    phase = CASE WHEN attempts + 1 >= $5 AND ended_at IS NULL THEN 'ended' ELSE phase END,
    failure = CASE WHEN attempts + 1 >= $5 AND ended_at IS NULL THEN $3 ELSE failure END,
    ended_at = CASE WHEN attempts + 1 >= $5 THEN coalesce(ended_at, $4) ELSE ended_at END
WHERE (tenant_id, replay_id) = ($1, $2)
"""


class PostgresReplayStep:
    """ReplayStep in one open transaction of the worker role."""

    def __init__(self, driver: asyncpg.Connection, tenant_id: str, replay: Replay) -> None:
        self._driver = driver
        self._tenant_id = tenant_id
        self.replay = replay

    async def meters(self, scope: ReplayScope) -> Sequence[Meter]:
        meters = await read_meters(self._driver, self._tenant_id)
        return [meter for meter in meters if not scope.meter_ids or meter.meter_id in scope.meter_ids]

    async def count(self, scope: ReplayScope) -> int:
        return await count_events(self._driver, self._tenant_id, scope)

    async def wait_for_recorders(self) -> None:
        await self._driver.execute(STOP_COUNTING, self._tenant_id)

    async def page(self, scope: ReplayScope, meters: Sequence[Meter], after: tuple[int, int, int] | None) -> LogPage:
        return await read_page(self._driver, self._tenant_id, scope, meters, after)

    async def keep(self, logged: LoggedEvents, readings: Sequence[LaterReading]) -> int:
        return await keep_readings(self._driver, self._tenant_id, self.replay.replay_id, logged, readings)

    async def compare(
        self, scope: ReplayScope, meters: Sequence[Meter], start_ns: int, *, with_kept: bool
    ) -> ComparedSlice:
        replay_id = self.replay.replay_id
        return await compare_slice(
            self._driver, self._tenant_id, replay_id, scope, meters, start_ns, with_kept=with_kept
        )

    async def swap(self, meters: Sequence[Meter], after: WindowPosition | None, now: datetime) -> SwappedPortion:
        return await swap_portion(self._driver, self._tenant_id, self.replay.replay_id, meters, after, now)

    async def forget(self) -> bool:
        tenant_id = self._tenant_id
        readings: str = await self._driver.execute(_FORGET, tenant_id, self.replay.replay_id, _FORGET_AT_ONCE)
        windows: str = await self._driver.execute(_FORGET_DIFFERENCES, tenant_id, WITH_DIFFERENCES, _FORGET_AT_ONCE)
        return (readings, windows) != ("DELETE 0", "DELETE 0")

    async def save(self, replay: Replay) -> None:
        if not await save_replay(self._driver, self._tenant_id, self.replay, replay):
            raise ReplayChanged(replay.replay_id)

    async def rest(self, until: datetime) -> None:
        await self._driver.execute(_BACK_INTO_LINE, self._tenant_id, self.replay.replay_id, until)

    async def leave(self) -> None:
        await self._driver.execute(_LEAVE, self._tenant_id, self.replay.replay_id)


class PostgresReplayQueue:
    """ReplayQueue over the worker's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: datetime) -> Sequence[QueuedReplay]:
        async with self._database.queue_transaction() as connection:
            rows = await (await raw(connection)).fetch(_DUE, now, _REPLAYS_AT_ONCE)
        return [(row["tenant_id"], row["replay_id"]) for row in rows]

    @asynccontextmanager
    async def step(self, queued: QueuedReplay) -> AsyncIterator[PostgresReplayStep | None]:
        tenant_id, replay_id = queued
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            if not await driver.fetchval(_TAKE, *queued):
                yield None
                return
            await driver.execute(_MEMORY)
            # Behind the lock: whatever the worker before us did is seen.
            yield PostgresReplayStep(driver, tenant_id, await read_replay(driver, tenant_id, replay_id))

    async def note_failure(
        self, queued: QueuedReplay, failure: str, now: datetime, again_at: datetime, max_attempts: int
    ) -> None:
        async with self._database.transaction(queued[0]) as connection:
            driver = await raw(connection)
            await driver.execute(_FAILED, *queued, failure, now, max_attempts)
            await driver.execute(_BACK_INTO_LINE, *queued, again_at)
