"""Replays beside recorders, other workers, crashes and people who change their minds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import pytest

from libs.database import Database
from services.ingest.domain.replays import Replay, ReplayMode, ReplayState
from services.ingest.domain.usage_windows import WindowChange
from services.ingest.store import replay_comparison, replay_swap
from services.ingest.store.recording import PostgresRecordingStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.store.replay_steps import PostgresReplayStep
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, a_batch, add_meters, fetch
from tests.component.ingest.metering import METERS, jobs
from tests.component.ingest.replaying import Replaying, mutation

MODES = pytest.mark.parametrize("mode", ReplayMode)
IDS = tuple(meter.meter_id for meter in METERS)


class KilledError(BaseException):
    """The process is gone."""


@pytest.fixture
def replaying(worker: Database, api: Database) -> Replaying:
    return Replaying(worker, api)


@pytest.fixture(autouse=True)
def in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are many of each."""
    monkeypatch.setattr(replay_comparison, "PAGE_EVENTS", 50)
    monkeypatch.setattr(replay_comparison, "SLICE_EVENTS", 60)
    monkeypatch.setattr(replay_swap, "PORTION_WINDOWS", 300)


class PausingRecorder(PostgresRecordingTransactions):
    """Stops in the middle of its transaction until it may go on."""

    def __init__(self, database: Database, pause: str) -> None:
        super().__init__(database)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._pause = pause

    @asynccontextmanager
    async def __call__(self, tenant_ids: Sequence[str]) -> AsyncIterator[PostgresRecordingStore]:
        async with super().__call__(tenant_ids) as store:
            add_windows = store.add_windows

            async def paused(changes: Mapping[str, Sequence[WindowChange]], now: datetime) -> None:
                if self._pause == "before windows":
                    await self._wait()
                await add_windows(changes, now)
                if self._pause == "before its commit":
                    await self._wait()

            store.add_windows = paused  # type: ignore[method-assign]
            yield store

    async def _wait(self) -> None:
        self.reached.set()
        await self.go_on.wait()


async def a_damaged_tenant(mode: ReplayMode, record: RecordUsage, api: Database, owner: asyncpg.Connection) -> None:
    """Four batches of 60 events; windows are wrong, or the meters came later."""
    if mode is ReplayMode.REBUILD:
        await add_meters(api, *METERS)
    for number in range(1, 5):
        await record([a_batch(number, *jobs(number, 60), accepted_total=60 * number)])
    if mode is ReplayMode.BACKFILL:
        await add_meters(api, *METERS)
    await owner.execute("UPDATE usage_windows SET value = value + 1 WHERE customer_id = 'cust-0'")
    await owner.execute("DELETE FROM usage_windows WHERE customer_id = 'cust-1'")


async def is_right(replaying: Replaying) -> bool:
    looked = await replaying.built(await replaying.start(dry_run=True))
    return looked.progress.windows_differing == 0 and await replaying.reconciles()


class TestRecorders:
    @MODES
    @pytest.mark.parametrize("pause", ["before windows", "before its commit"])
    async def test_whose_commit_comes_in_the_middle_of_a_swap_are_counted_once(
        self,
        mode: ReplayMode,
        pause: str,
        record: RecordUsage,
        api: Database,
        worker: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await a_damaged_tenant(mode, record, api, ingest_database_owner)
        replay_id = await replaying.start(mode, meters=IDS)
        await replaying.built(replay_id)
        await replaying.change.confirm(mutation(), replay_id)
        paused = PausingRecorder(worker, pause)
        # At the times of earlier events, so that windows exist and do not.
        late = [event._replace(event_id=f"late-{event.event_id}") for event in jobs(1, 60)] + jobs(9, 60)
        recording = asyncio.create_task(RecordUsage(paused, lambda: NOON)([a_batch(5, *late, accepted_total=360)]))
        await paused.reached.wait()
        swapping = asyncio.create_task(replaying.until(replay_id, ReplayState.DONE))
        if pause == "before windows":
            await swapping  # It does not see those events, and the recorder adds them to what it made.
        else:
            done, _ = await asyncio.wait({swapping}, timeout=0.5)
            assert not done  # It waits for the recorder's locks, and sees them then.
        paused.go_on.set()
        await recording
        await swapping

        assert await is_right(replaying)
        assert sum(row[5] for row in await replaying.windows("count")) == 360

    @MODES
    async def test_that_go_on_all_the_time_lose_nothing(
        self,
        mode: ReplayMode,
        record: RecordUsage,
        api: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await a_damaged_tenant(mode, record, api, ingest_database_owner)
        stop = asyncio.Event()
        recorded = 4

        async def keep_recording() -> None:
            nonlocal recorded
            while not stop.is_set():
                recorded += 1
                await record([a_batch(recorded, *jobs(recorded, 60), accepted_total=60 * recorded)])

        recording = asyncio.create_task(keep_recording())
        replay_id = await replaying.start(mode, meters=IDS)
        await replaying.built(replay_id)
        await replaying.confirmed(replay_id)
        stop.set()
        await recording

        assert await is_right(replaying)
        assert sum(row[5] for row in await replaying.windows("count")) == 60 * recorded > 300


class TestWorkers:
    @MODES
    async def test_that_are_killed_in_every_step_do_nothing_twice(
        self,
        mode: ReplayMode,
        record: RecordUsage,
        api: Database,
        worker: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await a_damaged_tenant(mode, record, api, ingest_database_owner)
        save, kills = PostgresReplayStep.save, 0

        async def killed_every_other_time(step: PostgresReplayStep, replay: Replay) -> None:
            nonlocal kills
            await save(step, replay)
            kills += 1
            if kills % 2:
                raise KilledError

        monkeypatch.setattr(PostgresReplayStep, "save", killed_every_other_time)
        replay_id = await replaying.start(mode, meters=IDS)
        for _ in range(500):
            found = await replaying.get(replay_id)
            if found.state is ReplayState.READY:
                await replaying.change.confirm(mutation(), replay_id)
            try:
                # A process of its own each time.
                if not await Replaying(worker, api).step() and found.state is ReplayState.DONE:
                    break
            except KilledError:
                continue
        monkeypatch.undo()

        done = await replaying.get(replay_id)
        assert (done.state, kills > 10) == (ReplayState.DONE, True)
        progress = done.progress
        assert (progress.events_in_scope, progress.events_read) == (240, 240)
        assert progress.windows_swapped == progress.windows_differing == progress.windows_built
        assert progress.events_measured == (0 if mode is ReplayMode.REBUILD else 240 * len(METERS))
        assert await is_right(replaying)

    async def test_that_are_several_share_the_work(
        self,
        record: RecordUsage,
        api: Database,
        worker: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await a_damaged_tenant(ReplayMode.BACKFILL, record, api, ingest_database_owner)
        others = [Replaying(worker, api) for _ in range(3)]
        replay_id = await replaying.start(ReplayMode.BACKFILL, meters=IDS)
        while (found := await replaying.get(replay_id)).state is not ReplayState.DONE:
            if found.state is ReplayState.READY:
                await replaying.change.confirm(mutation(), replay_id)
            await asyncio.gather(*(other.step() for other in others))

        assert found.progress.events_measured == 240 * len(METERS)
        assert found.progress.windows_swapped == found.progress.windows_differing
        assert await is_right(replaying)

    async def test_that_fail_time_and_again_give_up(
        self,
        record: RecordUsage,
        api: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await a_damaged_tenant(ReplayMode.BACKFILL, record, api, ingest_database_owner)
        replay_id = await replaying.start(ReplayMode.BACKFILL, meters=IDS)
        for _ in range(3):
            await replaying.step()

        async def broken(*_arguments: object, **_named: object) -> None:
            raise ValueError("it is broken")

        monkeypatch.setattr(PostgresReplayStep, "compare", broken)
        monkeypatch.setattr(PostgresReplayStep, "page", broken)
        for _ in range(5):
            assert (await replaying.get(replay_id)).state is ReplayState.BUILDING
            await ingest_database_owner.execute("UPDATE replay_queue SET due_at = $1", NOON)
            await replaying.step()

        failed = await replaying.get(replay_id)
        assert (failed.state, failed.failure) == (ReplayState.FAILED, "ValueError('it is broken')")
        await ingest_database_owner.execute("UPDATE replay_queue SET due_at = $1", NOON)
        await replaying.rest()
        assert await fetch(api, "acme", "SELECT count(*) FROM replay_measurements") == [(0,)]
        assert await fetch(api, "acme", "SELECT count(*) FROM backfilled_events") == [(0,)]
        await replaying.start()

    async def test_whose_replay_is_cancelled_under_their_hands_leave_it_so(
        self,
        record: RecordUsage,
        api: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await a_damaged_tenant(ReplayMode.REBUILD, record, api, ingest_database_owner)
        replay_id = await replaying.start()
        save = PostgresReplayStep.save

        async def cancelled_before(step: PostgresReplayStep, replay: Replay) -> None:
            monkeypatch.undo()
            await replaying.change.cancel(mutation(), replay_id)
            await save(step, replay)

        monkeypatch.setattr(PostgresReplayStep, "save", cancelled_before)
        assert await replaying.step()

        assert (await replaying.get(replay_id)).state is ReplayState.CANCELLED
        await replaying.rest()
        assert (await replaying.get(replay_id)).state is ReplayState.CANCELLED
        assert await fetch(api, "acme", "SELECT count(*) FROM replay_queue") == [(0,)]
