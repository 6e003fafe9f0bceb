from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from nats.aio.client import Client
from nats.js.api import StreamConfig

from libs.database import Database
from libs.outbox import StateOutbox, StateRelay, WatermarkForwarder, WatermarkOutbox
from tests.component.libs.outbox.support import (
    FEED,
    MARCH_1,
    MARKS,
    WATERMARK_FEED,
    WATERMARKS,
    Crash,
    FakeClock,
    FakePublisher,
    NatsPublisher,
    Published,
    change,
    fast_clock,
    rows_of,
    unpack,
)


def _at(second: int) -> datetime:
    return MARCH_1 + timedelta(seconds=second)


async def _offer(worker: Database, second: int, after_version: int) -> None:
    async with worker.queue_transaction() as connection:
        await WatermarkOutbox(connection, WATERMARKS, "ingest").offer(_at(second), after_version, b"at %d" % second)


async def _set_floor(worker: Database, floor: int | None) -> None:
    """Leave one mark that may have an unpublished change of version `floor`, or none."""
    async with worker.queue_transaction() as connection:
        await connection.execute(sa.delete(MARKS))
        if floor is not None:
            await StateOutbox(connection, MARKS).mark([("acme", "w1", floor)], MARCH_1)


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def forwarder(worker: Database, publisher: FakePublisher) -> WatermarkForwarder:
    return WatermarkForwarder(worker, publisher, WATERMARK_FEED, FakeClock())


class TestWatermarkForwarder:
    async def test_publishes_at_once_when_nothing_is_pending(
        self, worker: Database, publisher: FakePublisher, forwarder: WatermarkForwarder
    ) -> None:
        assert await forwarder.forward_once() is None
        await _offer(worker, 1, after_version=7)

        assert await forwarder.forward_once() == _at(1)
        assert await forwarder.forward_once() is None
        (message,) = publisher.messages
        assert (message.subject, message.payload) == ("ingest.watermark.advanced.v1", b"at 1")
        assert message.msg_id == "watermark:ingest:2026-03-01T00:00:01+00:00"
        (row,) = await rows_of(worker, WATERMARKS)
        assert (row["forwarded_through"], row["forwarded_at"], row["awaited_at"]) == (_at(1), MARCH_1, None)

    @pytest.mark.parametrize(("floor", "passes"), [(6, False), (7, False), (8, True)])
    async def test_waits_for_changes_up_to_its_version(
        self, floor: int, passes: bool, worker: Database, forwarder: WatermarkForwarder
    ) -> None:
        await _set_floor(worker, floor)
        await _offer(worker, 1, after_version=7)

        assert await forwarder.forward_once() == (_at(1) if passes else None)

    async def test_the_awaited_watermark_is_not_displaced_by_later_ones(
        self, worker: Database, forwarder: WatermarkForwarder
    ) -> None:
        """Under constant load each new watermark stands behind new changes; the first one must still get through."""
        await _set_floor(worker, 5)
        for second, version in [(1, 5), (2, 8), (3, 11)]:
            await _offer(worker, second, version)
        assert await forwarder.forward_once() is None
        await _set_floor(worker, 9)

        assert await forwarder.forward_once() == _at(1)
        assert await forwarder.forward_once() is None  # The one of second 2 gave way to that of second 3.
        await _set_floor(worker, None)
        assert await forwarder.forward_once() == _at(3)
        assert await forwarder.forward_once() is None

    async def test_a_later_watermark_overtakes_the_awaited_one(
        self, worker: Database, publisher: FakePublisher, forwarder: WatermarkForwarder
    ) -> None:
        for second in (1, 2):
            await _offer(worker, second, after_version=second)

        assert await forwarder.forward_once() == _at(2)
        assert await forwarder.forward_once() is None
        assert len(publisher.messages) == 1

    async def test_never_goes_back(self, worker: Database, forwarder: WatermarkForwarder) -> None:
        await _offer(worker, 5, after_version=1)
        assert await forwarder.forward_once() == _at(5)
        for second in (5, 4):
            await _offer(worker, second, after_version=1)
            assert await forwarder.forward_once() is None
        await _set_floor(worker, 1)
        for second in (9, 8, 7):
            await _offer(worker, second, after_version=1)
        await _set_floor(worker, None)
        assert await forwarder.forward_once() == _at(9)
        assert await forwarder.forward_once() is None

    async def test_an_offer_during_the_publish_is_kept(
        self, worker: Database, publisher: FakePublisher, forwarder: WatermarkForwarder
    ) -> None:
        async def offer_more(_: Published) -> None:
            publisher.after = None
            await _offer(worker, 2, after_version=2)
            await _offer(worker, 3, after_version=3)

        publisher.after = offer_more
        await _offer(worker, 1, after_version=1)
        assert [await forwarder.forward_once() for _ in range(3)] == [_at(1), _at(3), None]

    async def test_a_crash_after_the_publish_repeats_it_under_the_same_id(
        self, worker: Database, publisher: FakePublisher, forwarder: WatermarkForwarder
    ) -> None:
        async def crash(_: Published) -> None:
            publisher.after = None
            raise Crash

        publisher.after = crash
        await _offer(worker, 1, after_version=1)
        with pytest.raises(Crash):
            await forwarder.forward_once()

        assert await forwarder.forward_once() == _at(1)
        assert publisher.messages[0] == publisher.messages[1]

    async def test_what_was_not_acknowledged_stays(
        self, worker: Database, publisher: FakePublisher, forwarder: WatermarkForwarder
    ) -> None:
        async def refuse(_: Published) -> None:
            raise TimeoutError

        publisher.before = refuse
        await _offer(worker, 1, after_version=1)
        assert await forwarder.forward_once() is None
        assert forwarder.failed_total == 1
        publisher.before = None
        assert await forwarder.forward_once() == _at(1)


class _Service:
    """Writers, a keeper that offers watermarks, and relays that crash: all on one database."""

    def __init__(self, api: Database, worker: Database, seed: int) -> None:
        self.crash_rate = 0.03
        self.api = api
        self.worker = worker
        self.dice = random.Random(seed)
        self.clock = fast_clock(20)
        self.writing, self.stopping = asyncio.Event(), asyncio.Event()
        self.committed: dict[tuple[str, str], int] = {}
        self.covered: dict[datetime, dict[tuple[str, str], int]] = {}
        self.chances = 0
        self.crashes = 0

    async def write(self) -> None:
        for _ in range(80):
            tenant, keys = self.dice.choice(["acme", "bolt"]), self.dice.sample([f"w{n}" for n in range(12)], 4)
            async with self.api.transaction(tenant) as connection:
                versions = await change(connection, tenant, sorted(keys), self.clock())
                await asyncio.sleep(self.dice.uniform(0, 0.02))
            for key, version in versions.items():
                self.committed[tenant, key] = max(version, self.committed.get((tenant, key), 0))

    async def keep(self) -> None:
        """Offer what has been committed so far, again and again; the last time after all writers have ended."""
        last = False
        while not last:
            last = self.writing.is_set()
            covered, at = dict(self.committed), self.clock()
            async with self.worker.queue_transaction() as connection:
                after = (await connection.execute(sa.text("SELECT last_value FROM versions"))).scalar_one()
                self.covered[at] = covered
                await WatermarkOutbox(connection, WATERMARKS, "ingest").offer(at, after, at.isoformat().encode())
            await asyncio.sleep(0.01)

    async def run_with_crashes(self, relay: StateRelay | WatermarkForwarder) -> None:
        while not self.stopping.is_set():
            try:
                await relay.run(self.stopping)
            except Crash:
                self.crashes += 1

    async def perhaps_crash(self, _: Published) -> None:
        await asyncio.sleep(self.dice.uniform(0, 0.02))
        self.chances += 1
        if self.chances in {3, 8}:  # However few messages there are.
            raise Crash
        if self.dice.random() < self.crash_rate:
            raise self.dice.choice([Crash(), TimeoutError()])

    async def run(self, *relays: StateRelay | WatermarkForwarder) -> None:
        running = [asyncio.create_task(self.run_with_crashes(relay)) for relay in relays]
        keeping = asyncio.create_task(self.keep())
        await asyncio.gather(*(self.write() for _ in range(8)))
        self.writing.set()
        await keeping
        async with asyncio.timeout(60):
            while not await self.all_forwarded():  # noqa: ASYNC110 - what is waited for has no event.
                await asyncio.sleep(0.05)
        self.stopping.set()
        await asyncio.gather(*running)

    async def all_forwarded(self) -> bool:
        (row,) = await rows_of(self.worker, WATERMARKS)
        return bool(row["forwarded_through"] == max(self.covered))


@pytest.mark.parametrize("seed", range(3))
async def test_no_watermark_precedes_a_change_it_covers(
    seed: int, api: Database, worker: Database, broker: Client
) -> None:
    """In the stream's own order, through crashes on both sides of every publish, with two relays and two forwarders."""
    stream, name = broker.jetstream(), f"WINDOWS_{seed}"
    subjects = ["ingest.usage_window.>", "ingest.watermark.>"]
    await stream.add_stream(StreamConfig(name=name, subjects=subjects))
    service, real = _Service(api, worker, seed), NatsPublisher(stream)

    async def store(message: Published) -> None:
        await service.perhaps_crash(message)
        await real.publish(message.subject, message.payload, message.msg_id, message.headers)

    publisher = FakePublisher(before=store, after=service.perhaps_crash)
    await service.run(
        *(StateRelay(worker, publisher, FEED, service.clock) for _ in range(2)),
        *(WatermarkForwarder(worker, publisher, WATERMARK_FEED, service.clock) for _ in range(2)),
    )

    stored: dict[tuple[str, str], int] = {}
    watermarks: list[datetime] = []
    last = (await stream.stream_info(name)).state.last_seq
    for sequence in range(1, last + 1):
        message = await stream.get_msg(name, sequence)
        assert message.data is not None
        if message.subject == WATERMARK_FEED.subject:
            watermarks.append(datetime.fromisoformat(message.data.decode()))
            for item, version in service.covered[watermarks[-1]].items():
                assert stored.get(item, 0) >= version
        else:
            tenant, values = unpack(message.data)
            for key, version in values.items():
                stored[tenant, key] = max(version, stored.get((tenant, key), 0))
    await stream.delete_stream(name)

    assert stored == service.committed
    assert watermarks[-1] == max(service.covered)
    assert len(set(watermarks)) > 3  # Watermarks got through while the writers were busy.
    assert service.crashes > 0
