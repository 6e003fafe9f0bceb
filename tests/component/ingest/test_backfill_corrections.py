"""Backfills of events that are voided or replaced while their readings are on the way to the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from libs.database import Database
from services.ingest.domain.correction import CorrectionResult
from services.ingest.domain.replays import ReplayMode, ReplayPhase, ReplayState
from services.ingest.store.corrections import PostgresCorrectionStore
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.usecases.query_events import EventSelection
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import Event, a_batch, a_meter, add_meters, fetch
from tests.component.ingest.correcting import Corrector, key, outcomes
from tests.component.ingest.replaying import Replaying, mutation

VALUES = "SELECT value::int, event_count FROM usage_windows WHERE meter_id = 'tokens'"


@pytest.fixture
async def replaying(worker: Database, api: Database, record: RecordUsage) -> Replaying:
    """Two events of one window, and then a meter."""
    await record([a_batch(1, Event("1", {"tokens": "10"}), Event("2", {"tokens": "5"}))])
    await add_meters(api, a_meter())
    return Replaying(worker, api)


@pytest.fixture
def corrector(api: Database, worker: Database) -> Corrector:
    return Corrector(api, worker)


async def is_right(replaying: Replaying) -> bool:
    looked = await replaying.built(await replaying.start(dry_run=True))
    return looked.progress.windows_differing == 0 and await replaying.reconciles()


class TestABackfill:
    async def test_measures_nothing_that_does_not_count(
        self, api: Database, replaying: Replaying, corrector: Corrector
    ) -> None:
        await corrector.void(key("1"))

        ready = await replaying.built(await replaying.start(ReplayMode.BACKFILL, meters=("tokens",)))
        await replaying.confirmed(ready.replay_id)

        assert (ready.progress.events_in_scope, ready.progress.events_measured) == (2, 1)
        assert await fetch(api, "acme", VALUES) == [(5, 1)]
        events = await PostgresEventStore(api).events("acme", EventSelection(), None, 9)
        assert {event.event_id: dict(event.measured) for event in events} == {"1": {}, "2": {"tokens": "5"}}

    async def test_forgets_what_was_voided_between_measuring_and_comparing(
        self, api: Database, replaying: Replaying, corrector: Corrector
    ) -> None:
        replay_id = await replaying.start(ReplayMode.BACKFILL, meters=("tokens",))
        while (found := await replaying.get(replay_id)).phase is not ReplayPhase.COMPARING:
            await replaying.step()
        assert found.progress.events_measured == 2
        await corrector.void(key("1"))
        await corrector.replace((key("2"), Event("2b", {"tokens": "7"})))

        done = await replaying.built(replay_id)

        assert (done.state, done.progress.windows_differing) == (ReplayState.DONE, 0)
        assert await replaying.differences(replay_id) == []
        assert await fetch(api, "acme", VALUES) == [(7, 1)]

    @pytest.mark.parametrize("when", ["ready", "done"])
    async def test_that_is_corrected_later_counts_no_more(
        self, when: str, api: Database, replaying: Replaying, corrector: Corrector
    ) -> None:
        ready = await replaying.built(await replaying.start(ReplayMode.BACKFILL, meters=("tokens",)))
        if when == "done":
            await replaying.confirmed(ready.replay_id)
        await corrector.void(key("1"))
        await corrector.replace((key("2"), Event("2b", {"tokens": "7"})))
        if when == "ready":
            await replaying.confirmed(ready.replay_id)

        assert await fetch(api, "acme", VALUES) == [(7, 1)]
        assert await is_right(replaying)

    async def test_waits_for_a_correction_that_could_not_see_its_readings(
        self, api: Database, replaying: Replaying, corrector: Corrector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ready = await replaying.built(await replaying.start(ReplayMode.BACKFILL, meters=("tokens",)))
        await replaying.change.confirm(mutation(), ready.replay_id)
        has_decided, may_commit = asyncio.Event(), asyncio.Event()
        answer = PostgresCorrectionStore.answer

        async def paused(
            store: PostgresCorrectionStore, correction_id: str, results: Sequence[CorrectionResult]
        ) -> None:
            await answer(store, correction_id, results)
            has_decided.set()
            await may_commit.wait()

        monkeypatch.setattr(PostgresCorrectionStore, "answer", paused)
        voiding = asyncio.create_task(corrector.void(key("1")))
        await has_decided.wait()
        swapping = asyncio.create_task(replaying.until(ready.replay_id, ReplayState.DONE))
        done, _ = await asyncio.wait({swapping}, timeout=0.5)
        assert not done
        may_commit.set()

        assert outcomes(await voiding) == ["applied"]
        await swapping
        assert await fetch(api, "acme", VALUES) == [(5, 1)]
        assert await is_right(replaying)
