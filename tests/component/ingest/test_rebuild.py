"""Rebuilds: windows that differ from the log are found and, on a person's word, put right."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from libs.database import Database
from libs.errors import InvalidInput, RequestIdReused
from services.ingest.domain.replays import ReplayMode, ReplayPhase, ReplayScope, ReplayState
from services.ingest.store import replay_comparison, replay_swap
from services.ingest.usecases.errors import (
    MeterNotFound,
    ReplayActive,
    ReplayNotCancellable,
    ReplayNotFound,
    ReplayNotReady,
)
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.replays import StartReplayRequest
from tests.component.ingest.builders import NOON, a_batch, a_meter, add_meters, fetch
from tests.component.ingest.metering import METERS, MORNING, jobs
from tests.component.ingest.replaying import Replaying, Window, mutation

HOUR = timedelta(hours=1)


@pytest.fixture
def replaying(worker: Database, api: Database) -> Replaying:
    return Replaying(worker, api)


@pytest.fixture
async def windows(record: RecordUsage, api: Database, replaying: Replaying) -> list[Window]:
    """Of all kinds of meters over three days, as recorded."""
    await add_meters(
        api, *METERS, a_meter("by-region", expression="size", group_by=("region", "absent"), event_type="job")
    )
    for number in range(1, 4):
        await record([a_batch(number, *jobs(number, 120), accepted_total=120 * number)])
    return await replaying.windows()


@pytest.fixture
def in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are many of each."""
    monkeypatch.setattr(replay_comparison, "SLICE_EVENTS", 60)
    monkeypatch.setattr(replay_swap, "PORTION_WINDOWS", 250)


TAMPERED = {
    "another value": "UPDATE usage_windows SET value = value + 1 WHERE meter_id = 'sum'",
    "another count": "UPDATE usage_windows SET event_count = event_count + 2 WHERE meter_id IN ('users', 'min')",
    "another moment": "UPDATE usage_windows SET latest_position = latest_position + 1 WHERE meter_id = 'latest'",
    "emptied": "UPDATE usage_windows SET value = 0, event_count = 0 WHERE customer_id = 'cust-1'",
    "deleted": "DELETE FROM usage_windows WHERE meter_id IN ('by-region', 'latest-of-region', 'p90')",
    "all deleted": "DELETE FROM usage_windows",
    "moved": "UPDATE usage_windows SET window_start = window_start + interval '15 days' WHERE meter_id = 'max'",
    "beside the quarter of an hour": "UPDATE usage_windows SET window_start = window_start - interval '3 min 7 s'"
    " WHERE meter_id = 'count'",
    "nearer to the next": "UPDATE usage_windows SET window_start = window_start + interval '8 min'"
    " WHERE meter_id = 'p90'",
    "of an unknown meter": "UPDATE usage_windows SET meter_id = 'ghost' WHERE meter_id = 'count'",
    "of nobody": "UPDATE usage_windows SET customer_id = 'nobody' WHERE meter_id = 'avg'",
    "other dimensions": """UPDATE usage_windows SET dimensions = '{"region": "mars"}' WHERE meter_id = 'by-region'""",
    "twice": "INSERT INTO usage_windows SELECT tenant_id, window_key || 'x', meter_id, customer_id, window_start,"
    " dimensions, 5, 5, version, trace_parent, 0, 0 FROM usage_windows WHERE meter_id = 'sum' LIMIT 9",
}


class TestRepair:
    async def test_finds_nothing_where_nothing_is_wrong(self, windows: list[Window], replaying: Replaying) -> None:
        done = await replaying.built(await replaying.start())

        assert (done.state, done.ended_at is not None) == (ReplayState.DONE, True)
        assert (done.progress.events_in_scope, done.progress.events_read) == (360, 360)
        assert (done.progress.windows_built, done.progress.windows_differing) == (len(windows), 0)
        assert await replaying.differences(done.replay_id) == []

    @pytest.mark.parametrize("tampering", TAMPERED.values(), ids=TAMPERED.keys())
    @pytest.mark.usefixtures("in_small_portions")
    async def test_puts_right_what_was_changed(
        self, tampering: str, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute(tampering)
        tampered = await replaying.windows()
        assert tampered != windows

        ready = await replaying.built(await replaying.start())

        assert ready.state is ReplayState.READY
        assert ready.progress.windows_differing > 0
        assert await replaying.windows() == tampered  # Until a person says so.
        done = await replaying.confirmed(ready.replay_id)
        assert done.progress.windows_swapped == ready.progress.windows_differing
        assert await replaying.windows() == windows
        assert await replaying.reconciles()
        again = await replaying.built(await replaying.start(dry_run=True))
        assert again.progress.windows_differing == 0

    async def test_changed_windows_get_higher_versions_and_are_published(
        self, windows: list[Window], replaying: Replaying, api: Database, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute(
            "UPDATE usage_windows SET value = 0, event_count = 0 WHERE meter_id = 'min'"
        )
        # One that the log has nothing for.
        await ingest_database_owner.execute(
            "UPDATE usage_windows SET customer_id = 'nobody' WHERE meter_id = 'max' AND customer_id = 'cust-1'"
        )
        ((before,),) = await fetch(api, "acme", "SELECT last_value FROM state_version")
        await ingest_database_owner.execute("DELETE FROM usage_window_marks")
        ready = await replaying.built(await replaying.start())
        await replaying.confirmed(ready.replay_id)

        changed = await fetch(
            api,
            "acme",
            "SELECT meter_id, customer_id, encode(window_key, 'hex'), version FROM usage_windows WHERE version > $1",
            before,
        )
        assert {(meter_id, customer) for meter_id, customer, _, _ in changed} == {
            ("min", "cust-0"),
            ("min", "cust-1"),
            ("max", "cust-1"),
            ("max", "nobody"),  # As zero.
        }
        marks = await fetch(api, "acme", "SELECT item_key, version FROM usage_window_marks")
        assert set(marks) == {(key, version) for _, _, key, version in changed}

    async def test_a_window_without_events_stays_as_zero(
        self, windows: list[Window], replaying: Replaying, api: Database, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute(
            "INSERT INTO usage_windows SELECT tenant_id, '\\x00', meter_id, 'nobody', window_start, dimensions, 7, 3,"
            " 1, trace_parent, 0, 0 FROM usage_windows LIMIT 1"
        )
        ready = await replaying.built(await replaying.start())
        await replaying.confirmed(ready.replay_id)

        found = await fetch(
            api, "acme", "SELECT value, event_count, version > 1 FROM usage_windows WHERE customer_id = 'nobody'"
        )
        assert (0, 0, True) in found
        assert {row[:2] for row in found} == {(0, 0)}
        assert await replaying.windows() == windows

    async def test_the_scope_bounds_what_is_looked_at(
        self, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1")
        start = MORNING.replace(minute=0, second=0, microsecond=0)
        ready = await replaying.built(
            await replaying.start(meters=("sum", "latest"), customers=("cust-1",), start=start, end=start + 5 * HOUR)
        )
        await replaying.confirmed(ready.replay_id)

        wrong = {
            (meter, customer, at)
            for (meter, customer, at, _, value, *_), right in zip(await replaying.windows(), windows, strict=True)
            if value != right[4]
        }
        assert (
            {window[:3] for window in windows} - wrong
            == {
                (meter, customer, at)
                for meter, customer, at, *_ in windows
                if meter in ("sum", "latest") and customer == "cust-1" and start <= at < start + 5 * HOUR
            }
            != set()
        )

    async def test_of_others_are_left_alone(
        self,
        windows: list[Window],
        replaying: Replaying,
        record: RecordUsage,
        api: Database,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await add_meters(api, *METERS, tenant="beta")
        await record([a_batch(1, *jobs(1, 50), tenant="beta", seq=9)])
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1")
        before = await fetch(api, "beta", "SELECT value, version FROM usage_windows ORDER BY window_key")
        ready = await replaying.built(await replaying.start())
        await replaying.confirmed(ready.replay_id)

        assert await fetch(api, "beta", "SELECT value, version FROM usage_windows ORDER BY window_key") == before
        assert await replaying.windows() == windows


class TestDifferences:
    async def test_are_per_meter_customer_and_hour_and_add_up(
        self, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute("DELETE FROM usage_windows WHERE meter_id IN ('sum', 'max', 'latest')")
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 2 WHERE meter_id = 'avg'")
        ready = await replaying.built(await replaying.start())

        found = await replaying.differences(ready.replay_id)

        places = [(item.meter_id, item.customer_id, item.hour) for item in found]
        assert places == sorted(set(places))
        assert sum(item.windows for item in found) == ready.progress.windows_differing
        for item in found:
            of_hour = [
                window
                for window in windows
                if window[:2] == (item.meter_id, item.customer_id) and item.hour <= window[2] < item.hour + HOUR
            ]
            values = [window[4] for window in of_hour]
            assert (item.windows, item.built_events) == (len(of_hour), sum(window[5] for window in of_hour))
            if item.meter_id == "avg":
                assert (item.built_value, item.live_value) == (sum(values), sum(values) + 2 * len(values))
                assert item.live_events == item.built_events
                continue
            expected = {
                "sum": sum(values),
                "max": max(values),
                "latest": max(of_hour, key=lambda window: window[6:])[4],
            }
            assert item.built_value == expected[item.meter_id]
            assert item.live_value == item.live_events == 0
        assert {item.meter_id for item in found} == {"sum", "max", "latest", "avg"}
        assert await replaying.differences(ready.replay_id, at_once=3) == found


class TestDecisions:
    async def test_a_dry_run_reports_and_changes_nothing(
        self, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1")
        tampered = await replaying.windows()
        done = await replaying.built(await replaying.start(dry_run=True))
        await replaying.rest()

        assert (done.state, done.progress.windows_differing) == (ReplayState.DONE, len(windows))
        assert await replaying.differences(done.replay_id) != []
        assert await replaying.windows() == tampered
        with pytest.raises(ReplayNotReady):
            await replaying.change.confirm(mutation(), done.replay_id)

    @pytest.mark.parametrize("steps", [0, 1, 3, 100])
    @pytest.mark.usefixtures("in_small_portions")
    async def test_cancelled_leaves_everything_as_it_was(
        self, steps: int, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1")
        tampered = await replaying.windows()
        replay_id = await replaying.start()
        for _ in range(steps):
            await replaying.step()
        cancelled = await replaying.change.cancel(mutation(), replay_id)
        await replaying.rest()

        assert (cancelled.state, cancelled.phase) == (ReplayState.CANCELLED, ReplayPhase.ENDED)
        assert (await replaying.get(replay_id)) == cancelled
        assert await replaying.windows() == tampered
        with pytest.raises(ReplayNotReady):
            await replaying.change.confirm(mutation(), replay_id)
        with pytest.raises(ReplayNotCancellable):
            await replaying.change.cancel(mutation(), replay_id)
        await replaying.start()  # Another one may begin.

    @pytest.mark.usefixtures("in_small_portions")
    async def test_what_is_being_swapped_cannot_be_cancelled(
        self, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1")
        ready = await replaying.built(await replaying.start())
        await replaying.change.confirm(mutation(), ready.replay_id)
        await replaying.step()

        with pytest.raises(ReplayNotCancellable):
            await replaying.change.cancel(mutation(), ready.replay_id)

    async def test_a_tenant_has_one_at_a_time(self, windows: list[Window], replaying: Replaying) -> None:
        first = await replaying.start()
        with pytest.raises(ReplayActive):
            await replaying.start()
        await replaying.start(tenant="beta")
        await replaying.built(first)
        second = await replaying.start()

        assert [replay.replay_id for replay in await replaying.store.list("acme", None, 9)] == [second, first]
        assert [replay.replay_id for replay in await replaying.store.list("acme", second, 9)] == [first]
        with pytest.raises(ReplayNotFound):
            await replaying.store.get("beta", first)

    async def test_each_happens_once_per_request(
        self, windows: list[Window], replaying: Replaying, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1")
        asked, start = StartReplayRequest(ReplayMode.REBUILD, False, ReplayScope()), mutation()
        first = await replaying.change.start(start, asked)
        assert await replaying.change.start(start, asked) == first
        with pytest.raises(RequestIdReused):
            await replaying.change.start(mutation(request_id=start.request_id, meaning=b"other"), asked)
        await replaying.built(first.replay_id)
        confirm = mutation()
        await replaying.change.confirm(confirm, first.replay_id)
        done = await replaying.until(first.replay_id, ReplayState.DONE)
        assert await replaying.change.confirm(confirm, first.replay_id) == done
        assert (done.actor, done.confirmed_by) == ("key-1", "key-1")

    @pytest.mark.parametrize(
        ("mode", "scope", "fields"),
        [
            (ReplayMode.BACKFILL, ReplayScope(), ["scope.meter_ids"]),
            (ReplayMode.REBUILD, ReplayScope(("a b",), ("",)), ["scope.meter_ids[0]", "scope.customer_ids[0]"]),
            (ReplayMode.REBUILD, ReplayScope(("a", "a")), ["scope.meter_ids[1]"]),
            (ReplayMode.REBUILD, ReplayScope(["m"] * 101, ["c"] * 1_001), ["scope.meter_ids", "scope.customer_ids"]),
            (ReplayMode.REBUILD, ReplayScope(start=MORNING), ["scope.start_time"]),
            (ReplayMode.REBUILD, ReplayScope(start=NOON, end=NOON), ["scope.end_time"]),
            (ReplayMode.REBUILD, ReplayScope(end=NOON.replace(year=1969)), ["scope.end_time"]),
        ],
    )
    async def test_what_is_wrong_is_named(
        self, mode: ReplayMode, scope: ReplayScope, fields: list[str], replaying: Replaying
    ) -> None:
        with pytest.raises(InvalidInput) as refused:
            await replaying.change.start(mutation(), StartReplayRequest(mode, False, scope))
        assert [violation.field for violation in refused.value.violations] == fields

    async def test_of_an_unknown_meter_is_refused(self, replaying: Replaying) -> None:
        with pytest.raises(MeterNotFound):
            await replaying.start(meters=("nothing",))
        assert await replaying.store.list("acme", None, 9) == []
