"""Whatever has happened to a tenant: replays come to what recording and corrections have come to."""

from __future__ import annotations

import random

import asyncpg
import pytest

from libs.database import Database
from services.ingest.domain.replays import ReplayMode, ReplayState
from services.ingest.store import replay_comparison, replay_swap
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import a_batch, add_meters, fetch
from tests.component.ingest.histories import History
from tests.component.ingest.metering import METERS
from tests.component.ingest.replaying import Replaying, mutation

SEEDS = pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))]
)
# Of values at the same instant the one that was recorded last is the latest: another order of recording, another value.
STATES = """
SELECT meter_id, customer_id, window_start, dimensions::text, value, event_count FROM usage_windows
WHERE event_count > 0 AND meter_id NOT LIKE 'latest%' AND meter_id <> ALL ($1::text[]) ORDER BY 1, 2, 3, 4
"""
# Not moving them: where a window belongs that has been emptied meanwhile, nobody can tell until it holds events.
TAMPERINGS = (
    "UPDATE usage_windows SET value = value + 1",
    "UPDATE usage_windows SET value = 0, event_count = 0",
    "UPDATE usage_windows SET event_count = event_count + 1, latest_position = latest_position + 1",
    "DELETE FROM usage_windows",
)


@pytest.fixture
def replaying(worker: Database, api: Database) -> Replaying:
    return Replaying(worker, api)


@pytest.fixture(autouse=True)
def in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are many of each."""
    monkeypatch.setattr(replay_comparison, "PAGE_EVENTS", 30)
    monkeypatch.setattr(replay_comparison, "SLICE_EVENTS", 40)
    monkeypatch.setattr(replay_swap, "PORTION_WINDOWS", 120)


async def is_as_if_only_that_had_been_sent(history: History, record: RecordUsage, api: Database) -> bool:
    """Meters that have ended count only what came before their end, so they are left out."""
    await add_meters(api, *METERS, tenant="clean")
    await record([a_batch(1, *history.effective.values(), tenant="clean", seq=900)])
    ended = sorted(history.ended)
    return await fetch(api, "acme", STATES, ended) == await fetch(api, "clean", STATES, ended)


async def agrees_with_the_log(replaying: Replaying) -> bool:
    looked = await replaying.built(await replaying.start(dry_run=True))
    return looked.progress.windows_differing == 0 and await replaying.reconciles()


class TestARebuild:
    @SEEDS
    async def test_finds_nothing_to_repair(
        self, seed: int, record: RecordUsage, api: Database, worker: Database, replaying: Replaying
    ) -> None:
        history = History(random.Random(seed), record, api, worker, late=())
        await history.begin(METERS)
        await history.play(40)
        await history.finish()

        done = await replaying.built(await replaying.start())

        assert (done.state, done.progress.windows_differing) == (ReplayState.DONE, 0)
        assert done.progress.windows_built == len(await replaying.windows()) > 100
        assert await replaying.reconciles()
        assert 0 < len(history.effective) < len(history.events)
        assert await is_as_if_only_that_had_been_sent(history, record, api)

    @SEEDS
    async def test_repairs_what_was_tampered_with_while_everything_goes_on(
        self,
        seed: int,
        record: RecordUsage,
        api: Database,
        worker: Database,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        dice = random.Random(seed)
        history = History(dice, record, api, worker, late=())
        await history.begin(METERS)
        await history.play(20)
        tampering, remainder = dice.choice(TAMPERINGS), dice.randrange(5)
        await ingest_database_owner.execute(f"{tampering} WHERE abs(hashtext(window_key::text)) % 5 = {remainder}")
        ((before,),) = await fetch(api, "acme", "SELECT last_value FROM state_version")
        await ingest_database_owner.execute("DELETE FROM usage_window_marks")

        replay_id = await replaying.start()
        for _ in range(dice.randrange(6)):
            await history.play(2)
            await replaying.step()
        ready = await replaying.built(replay_id)
        await history.play(4)
        assert not await replaying.reconciles()
        await replaying.change.confirm(mutation(), replay_id)
        while (done := await replaying.get(replay_id)).state is ReplayState.SWAPPING:
            await replaying.step()
            await history.play(1)

        assert done.progress.windows_swapped == ready.progress.windows_differing > 0
        await replaying.rest()
        await history.finish()
        assert await agrees_with_the_log(replaying)
        assert await is_as_if_only_that_had_been_sent(history, record, api)
        # Whatever has changed is told, under the version it has: what was swapped, too.
        changed = await fetch(
            api, "acme", "SELECT encode(window_key, 'hex'), version FROM usage_windows WHERE version > $1", before
        )
        marks = await fetch(
            api,
            "acme",
            "SELECT item_key, max(version) FROM usage_window_marks WHERE tenant_id = 'acme' GROUP BY item_key",
        )
        assert set(marks) == set(changed)
        assert len(changed) >= ready.progress.windows_differing


class TestABackfill:
    @SEEDS
    async def test_beside_corrections_is_the_same_as_having_had_the_meters_from_the_start(
        self, seed: int, record: RecordUsage, api: Database, worker: Database, replaying: Replaying
    ) -> None:
        dice = random.Random(seed)
        meters = dice.sample(METERS, len(METERS))
        history = History(dice, record, api, worker, late=meters[:6])
        await history.begin(meters[6:])
        await history.play(20)
        # A backfill knows its meters; they may end on the way.
        while history.late:
            await history.make()
        ids = tuple(meter.meter_id for meter in meters)

        replay_id = await replaying.start(ReplayMode.BACKFILL, meters=ids)
        for _ in range(dice.randrange(6)):
            await history.play(2)
            await replaying.step()
        ready = await replaying.built(replay_id)
        await history.play(4)
        assert ready.progress.events_measured > 0
        await replaying.change.confirm(mutation(), replay_id)
        while (await replaying.get(replay_id)).state is ReplayState.SWAPPING:
            await replaying.step()
            await history.play(1)
        await replaying.rest()
        # What was backfilled is taken back and replaced, too.
        await history.play(8)
        await history.finish()

        assert await agrees_with_the_log(replaying)
        assert await is_as_if_only_that_had_been_sent(history, record, api)
        again = await replaying.built(await replaying.start(ReplayMode.BACKFILL, meters=ids))
        assert (again.state, again.progress.events_measured) == (ReplayState.DONE, 0)
