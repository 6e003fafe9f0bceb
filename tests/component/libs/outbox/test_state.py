from __future__ import annotations

import asyncio
import logging
import random

import pytest
import sqlalchemy as sa

from libs.database import Database, raw
from libs.outbox import StateOutbox, StateRelay, pending_floor, state_relay
from tests.component.libs.outbox.support import (
    FEED,
    MARCH_1,
    MARKS,
    Crash,
    FakeClock,
    FakePublisher,
    Published,
    change,
    fast_clock,
    rows_of,
    unpack,
    until,
)


async def _change(api: Database, clock: FakeClock, *keys: str, tenant: str = "acme") -> dict[str, int]:
    async with api.transaction(tenant) as connection:
        return await change(connection, tenant, keys, clock.now)


async def _mark(api: Database, *items: tuple[str, str, int]) -> None:
    async with api.transaction("acme") as connection:
        await StateOutbox(connection, MARKS).mark(items, MARCH_1)


async def _floor(worker: Database) -> int | None:
    async with worker.queue_transaction() as connection:
        return await pending_floor(connection, MARKS)


class TestStateOutbox:
    async def test_every_change_has_a_mark_and_the_same_version_only_one(self, api: Database, worker: Database) -> None:
        await _mark(api, ("acme", "w1", 5))
        await _mark(api, ("acme", "w1", 7), ("acme", "w2", 9), ("acme", "w1", 5))

        assert sorted(tuple(row.values()) for row in await rows_of(worker, MARKS)) == [
            (5, "acme", "w1", MARCH_1),
            (7, "acme", "w1", MARCH_1),
            (9, "acme", "w2", MARCH_1),
        ]

    async def test_the_floor_is_the_oldest_change_that_may_be_unpublished(
        self, api: Database, worker: Database
    ) -> None:
        assert await _floor(worker) is None
        await _mark(api, ("acme", "w1", 5), ("acme", "w2", 8))
        await _mark(api, ("acme", "w1", 9))
        assert await _floor(worker) == 5

    async def test_writers_of_the_same_item_do_not_wait_for_each_other(self, api: Database, worker: Database) -> None:
        async with api.transaction("acme") as first, asyncio.timeout(5):
            await StateOutbox(first, MARKS).mark([("acme", "w1", 5)], MARCH_1)
            await _mark(api, ("acme", "w1", 6))
        assert await _floor(worker) == 5


class TestStopping:
    async def test_ends_a_long_pass_and_leaves_the_rest_to_others(
        self, api: Database, worker: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that walked over a million marks first would be killed in the middle, with its lease."""
        monkeypatch.setattr(state_relay, "_MARKS_AT_ONCE", 2)
        clock, stopping = FakeClock(), asyncio.Event()
        await _change(api, clock, *(f"w{number}" for number in range(10)))

        async def stop(_: Published) -> None:
            stopping.set()

        relay = StateRelay(worker, FakePublisher(after=stop), FEED, clock)
        await relay.run(stopping)
        assert (relay.published_total, len(await rows_of(worker, MARKS))) == (2, 8)
        assert await StateRelay(worker, FakePublisher(), FEED, clock).relay_once() == 8


class TestStateRelay:
    async def test_packs_current_values_per_tenant(self, api: Database, worker: Database) -> None:
        clock, publisher = FakeClock(), FakePublisher()
        relay = StateRelay(worker, publisher, FEED, clock)
        await _change(api, clock, "w1", "w2")
        newest = await _change(api, clock, "w1")
        await _change(api, clock, "w1", tenant="bolt")

        assert await relay.relay_once() == 3
        assert await relay.relay_once() == 0
        assert await rows_of(worker, MARKS) == []
        messages = dict(unpack(message.payload) for message in publisher.messages)
        assert len(publisher.messages) == 2
        assert messages["acme"]["w1"] == newest["w1"]
        assert set(messages["acme"]) == {"w1", "w2"}
        assert set(messages["bolt"]) == {"w1"}
        assert {message.msg_id.split(":")[0] for message in publisher.messages} == {"acme", "bolt"}

    async def test_splits_what_is_too_much_for_one_message(self, api: Database, worker: Database) -> None:
        clock, publisher = FakeClock(), FakePublisher()
        await _change(api, clock, *(f"w{number}" for number in range(1100)))

        assert await StateRelay(worker, publisher, FEED, clock).relay_once() == 1100
        assert sorted(len(unpack(message.payload)[1]) for message in publisher.messages) == [100, 500, 500]

    async def test_an_item_leaves_once_in_a_pass_however_many_marks_it_has(
        self, api: Database, worker: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(state_relay, "_MARKS_AT_ONCE", 3)
        clock, publisher = FakeClock(), FakePublisher()
        for _ in range(5):
            newest = await _change(api, clock, "w1", "w2")

        assert await StateRelay(worker, publisher, FEED, clock).relay_once() == 2
        assert await rows_of(worker, MARKS) == []
        assert [unpack(message.payload) for message in publisher.messages] == [("acme", newest)]

    async def test_a_change_during_the_publish_keeps_its_mark(self, api: Database, worker: Database) -> None:
        clock, publisher = FakeClock(), FakePublisher()
        relay = StateRelay(worker, publisher, FEED, clock)
        await _change(api, clock, "w1")
        later: list[int] = []

        async def change_again(_: Published) -> None:
            publisher.after = None
            later.extend([(await _change(api, clock, "w1"))["w1"] for _ in range(2)])

        publisher.after = change_again
        assert await relay.relay_once() == 1
        assert sorted(row["version"] for row in await rows_of(worker, MARKS)) == later

        assert await relay.relay_once() == 1
        assert await rows_of(worker, MARKS) == []
        assert unpack(publisher.messages[-1].payload) == ("acme", {"w1": later[-1]})

    async def test_a_change_that_commits_late_is_published_although_its_version_is_lower(
        self, api: Database, worker: Database
    ) -> None:
        clock, publisher = FakeClock(), FakePublisher()
        relay = StateRelay(worker, publisher, FEED, clock)
        async with api.transaction("acme") as connection:
            late = await change(connection, "acme", ["late"], MARCH_1)
            await _change(api, clock, "early")
            assert await relay.relay_once() == 1
        assert await _floor(worker) == late["late"]

        assert await relay.relay_once() == 1
        assert unpack(publisher.messages[-1].payload) == ("acme", late)
        assert await _floor(worker) is None

    async def test_one_relay_works_until_its_lease_ends(self, api: Database, worker: Database) -> None:
        clock, publisher = FakeClock(), FakePublisher()
        first, second = (StateRelay(worker, publisher, FEED, clock) for _ in range(2))
        await _change(api, clock, "w1")
        assert await first.relay_once() == 1

        await _change(api, clock, "w1")
        assert await second.relay_once() == 0
        clock.advance(seconds=6)
        assert await second.relay_once() == 1

    async def test_a_relay_that_stops_leaves_its_lease_to_others(self, api: Database, worker: Database) -> None:
        clock, publisher, stopping = FakeClock(), FakePublisher(), asyncio.Event()
        first, second = (StateRelay(worker, publisher, FEED, clock) for _ in range(2))
        await _change(api, clock, "w1")
        running = asyncio.create_task(first.run(stopping))
        await until(lambda: len(publisher.messages) == 1)
        stopping.set()
        await running

        await _change(api, clock, "w1")
        assert await second.relay_once() == 1

    async def test_a_crash_after_the_publish_repeats_it_under_the_same_id(
        self, api: Database, worker: Database
    ) -> None:
        async def crash(_: Published) -> None:
            raise Crash

        clock, publisher = FakeClock(), FakePublisher(after=crash)
        version = (await _change(api, clock, "w1"))["w1"]
        with pytest.raises(Crash):
            await StateRelay(worker, publisher, FEED, clock).relay_once()
        assert await _floor(worker) == version

        publisher.after = None
        clock.advance(seconds=10)
        assert await StateRelay(worker, publisher, FEED, clock).relay_once() == 1
        assert len({message.msg_id for message in publisher.messages}) == 1
        assert await _floor(worker) is None

    async def test_what_was_not_acknowledged_stays_and_is_sent_again(self, api: Database, worker: Database) -> None:
        async def refuse(message: Published) -> None:
            if message.msg_id.startswith("acme"):
                raise TimeoutError

        clock, publisher = FakeClock(), FakePublisher(before=refuse)
        relay = StateRelay(worker, publisher, FEED, clock)
        version = (await _change(api, clock, "w1"))["w1"]
        await _change(api, clock, "w1", tenant="bolt")
        assert await relay.relay_once() == 1
        assert await _floor(worker) == version

        publisher.before = None
        assert await relay.relay_once() == 1
        assert await _floor(worker) is None

    async def test_a_failed_item_does_not_hold_up_those_behind_it(
        self, api: Database, worker: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(state_relay, "_MARKS_AT_ONCE", 1)

        async def refuse(message: Published) -> None:
            if b"bad" in message.payload:
                raise ValueError("too large")

        clock, publisher = FakeClock(), FakePublisher(before=refuse)
        bad = await _change(api, clock, "bad")
        await _change(api, clock, "good")
        assert await StateRelay(worker, publisher, FEED, clock).relay_once() == 1
        assert [row["version"] for row in await rows_of(worker, MARKS)] == [bad["bad"]]

    async def test_what_was_published_before_does_not_cover_a_later_change_that_failed(
        self, api: Database, worker: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Within one pass: an item's first marks leave, it changes, its next mark is read, and the broker refuses."""
        monkeypatch.setattr(state_relay, "_MARKS_AT_ONCE", 2)
        clock, publisher = FakeClock(), FakePublisher()
        relay = StateRelay(worker, publisher, FEED, clock)
        async with api.transaction("acme") as connection:
            reserved = await raw(connection)
            below = await reserved.fetchval("SELECT nextval('versions')")
        await _mark(api, ("acme", "ghost", below))
        first = (await _change(api, clock, "w1"))["w1"]
        async with api.transaction("acme") as connection:
            above = await (await raw(connection)).fetchval("SELECT nextval('versions') + 10")
        await _mark(api, ("acme", "ghost", above))  # The pass ends here, above the change to come.
        second: list[int] = []

        async def change_then_fail(_: Published) -> None:
            second.append((await _change(api, clock, "w1"))["w1"])
            publisher.after = None

            async def refuse(_: Published) -> None:
                raise TimeoutError

            publisher.before = refuse

        publisher.after = change_then_fail
        await relay.relay_once()
        assert first < second[0] < above
        assert second[0] in {row["version"] for row in await rows_of(worker, MARKS)}

    async def test_a_late_relay_does_not_undo_what_another_has_done(self, api: Database, worker: Database) -> None:
        """The first relay stalls in its publish beyond its lease; a second publishes, then a new change is marked."""
        clock, stalled, go_on = FakeClock(), asyncio.Event(), asyncio.Event()

        async def stall(_: Published) -> None:
            stalled.set()
            await go_on.wait()

        await _change(api, clock, "w1")
        late = asyncio.create_task(StateRelay(worker, FakePublisher(after=stall), FEED, clock).relay_once())
        await stalled.wait()
        await _change(api, clock, "w1")
        clock.advance(seconds=10)
        assert await StateRelay(worker, FakePublisher(), FEED, clock).relay_once() == 1
        newest = (await _change(api, clock, "w1"))["w1"]
        go_on.set()
        await late

        assert [row["version"] for row in await rows_of(worker, MARKS)] == [newest]

    async def test_a_mark_without_a_value_is_reported_and_removed(
        self, api: Database, worker: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock, publisher = FakeClock(), FakePublisher()
        await _mark(api, ("acme", "ghost", 3))
        await _change(api, clock, "w1")
        with caplog.at_level(logging.ERROR):
            assert await StateRelay(worker, publisher, FEED, clock).relay_once() == 1

        assert "ghost of acme is marked at version 3 but gone" in caplog.text
        assert await rows_of(worker, MARKS) == []


class _Ledger:
    """What the writers committed and what the broker acknowledged, to compare the floor with."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[str, str], int] = {}

    async def store(self, message: Published) -> None:
        tenant, values = unpack(message.payload)
        for key, version in values.items():
            self.acknowledged[tenant, key] = max(version, self.acknowledged.get((tenant, key), 0))


@pytest.mark.parametrize("seed", range(3))
async def test_the_last_version_is_published_whoever_crashes(seed: int, api: Database, worker: Database) -> None:
    """Eight writers mark the same items while two relays publish and crash before and after publishing.

    At every moment: a committed version below the floor has been acknowledged.
    """
    dice, ledger, stopping, clock = random.Random(seed), _Ledger(), asyncio.Event(), fast_clock(20)
    tenants, keys = ("acme", "bolt"), [f"w{number}" for number in range(12)]
    crashes = checks = 0

    # How often relays publish depends on the machine: the first two ways to fail are certain to come up.
    certain = [Crash(), TimeoutError()]

    async def perhaps_crash(_: Published) -> None:
        await asyncio.sleep(dice.uniform(0, 0.01))
        if certain:
            raise certain.pop()
        if dice.random() < 0.15:
            raise dice.choice([Crash(), TimeoutError()])

    async def before(message: Published) -> None:
        await perhaps_crash(message)

    async def after(message: Published) -> None:
        await ledger.store(message)
        await perhaps_crash(message)

    async def relay() -> None:
        nonlocal crashes
        while not stopping.is_set():
            try:
                await StateRelay(worker, FakePublisher(before, after), FEED, clock).run(stopping)
            except Crash:
                crashes += 1

    async def write() -> None:
        for _ in range(40):
            tenant = dice.choice(tenants)
            async with api.transaction(tenant) as connection:
                await change(connection, tenant, sorted(dice.sample(keys, 4)), clock())
                await asyncio.sleep(dice.uniform(0, 0.01))

    async def check() -> None:
        nonlocal checks
        query = (
            "SELECT tenant_id, window_key, version FROM windows"
            " WHERE version < coalesce((SELECT min(version) FROM window_marks), 9223372036854775807)"
        )
        while not stopping.is_set():
            async with worker.transaction(*tenants) as connection:
                rows = await (await raw(connection)).fetch(query)
            for tenant, key, version in rows:
                assert ledger.acknowledged.get((tenant, key), 0) >= version
                checks += 1
            await asyncio.sleep(0.002)

    checker = asyncio.create_task(check())
    relays = [asyncio.create_task(relay()) for _ in range(2)]
    await asyncio.gather(*(write() for _ in range(8)))
    async with asyncio.timeout(30):
        while await rows_of(worker, MARKS):  # noqa: ASYNC110 - what is waited for has no event.
            await asyncio.sleep(0.02)
    stopping.set()
    await asyncio.gather(checker, *relays)

    async with worker.transaction(*tenants) as connection:
        final = (await connection.execute(sa.text("SELECT tenant_id, window_key, version FROM windows"))).all()
    assert {(tenant, key): version for tenant, key, version in final} == ledger.acknowledged
    assert crashes > 0
    assert checks > 0
