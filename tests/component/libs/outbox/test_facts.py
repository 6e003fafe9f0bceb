from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import asyncpg
import pytest
import sqlalchemy as sa
from nats.aio.client import Client
from nats.js.api import StreamConfig
from opentelemetry.sdk.trace import TracerProvider

from libs.database import Database
from libs.embedded.databases import ServiceDatabase
from libs.outbox import Fact, FactOutbox, FactRelay
from libs.outbox.fact_relay import KEPT
from tests.component.libs.outbox.support import (
    FACTS,
    MARCH_1,
    Crash,
    FakeClock,
    FakePublisher,
    NatsPublisher,
    Published,
    fast_clock,
    rows_of,
    until,
)


def _fact(number: int, tenant: str = "acme", payload: bytes = b"payload") -> Fact:
    return Fact(f"{tenant}:issued:{number}", tenant, "billing.invoice.issued.v1", payload)


async def _add(api: Database, *facts: Fact) -> None:
    async with api.transaction(facts[0].tenant_id) as connection:
        await FactOutbox(connection, FACTS).add(facts, MARCH_1)


class TestFactOutbox:
    async def test_facts_leave_as_they_were_added_and_once(self, api: Database, worker: Database) -> None:
        publisher, clock = FakePublisher(), FakeClock()
        relay = FactRelay(worker, publisher, FACTS, clock)
        await _add(api, _fact(1, payload=b"\x00\xff"), _fact(2))
        await _add(api, _fact(1, tenant="bolt"))

        assert await relay.relay_once() == 3
        clock.advance(days=1)
        assert await relay.relay_once() == 0

        assert {(message.msg_id, message.subject, message.payload) for message in publisher.messages} == {
            ("acme:issued:1", "billing.invoice.issued.v1", b"\x00\xff"),
            ("acme:issued:2", "billing.invoice.issued.v1", b"payload"),
            ("bolt:issued:1", "billing.invoice.issued.v1", b"payload"),
        }
        assert relay.published_total == 3

    async def test_the_trace_of_the_change_goes_along(self, api: Database, worker: Database) -> None:
        publisher = FakePublisher()
        with TracerProvider().get_tracer("test").start_as_current_span("issue") as span:
            await _add(api, _fact(1))
        await FactRelay(worker, publisher, FACTS, FakeClock()).relay_once()

        assert f"{span.get_span_context().trace_id:032x}" in publisher.messages[0].headers["traceparent"]

    async def test_what_is_rolled_back_was_never_added(self, api: Database, worker: Database) -> None:
        async def fail() -> None:
            async with api.transaction("acme") as connection:
                await FactOutbox(connection, FACTS).add([_fact(1)], MARCH_1)
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert await FactRelay(worker, FakePublisher(), FACTS, FakeClock()).relay_once() == 0

    async def test_a_fact_added_again_changes_nothing(self, api: Database, worker: Database) -> None:
        publisher = FakePublisher()
        await _add(api, _fact(1))
        await _add(api, _fact(1, payload=b"other"), _fact(2))
        await FactRelay(worker, publisher, FACTS, FakeClock()).relay_once()

        assert sorted((message.msg_id, message.payload) for message in publisher.messages) == [
            ("acme:issued:1", b"payload"),
            ("acme:issued:2", b"payload"),
        ]

    async def test_a_tenant_does_not_see_the_facts_of_another(self, api: Database) -> None:
        await _add(api, _fact(1))
        async with api.transaction("bolt") as connection:
            assert (await connection.execute(sa.select(FACTS.facts))).all() == []


class TestFactRelay:
    async def test_concurrent_relays_share_the_work(self, api: Database, worker: Database) -> None:
        publishers = [FakePublisher() for _ in range(4)]
        relays = [FactRelay(worker, publisher, FACTS, FakeClock()) for publisher in publishers]
        await _add(api, *(_fact(number) for number in range(1500)))

        async def drain(relay: FactRelay) -> None:
            while await relay.relay_once():
                pass

        await asyncio.gather(*map(drain, relays))

        counts = Counter(message.msg_id for publisher in publishers for message in publisher.messages)
        assert len(counts) == 1500
        assert set(counts.values()) == {1}
        assert sum(bool(publisher.messages) for publisher in publishers) > 1

    async def test_writers_with_long_transactions_lose_nothing(self, api: Database, worker: Database) -> None:
        """Ids are taken before commits, in another order: a relay that remembers a position would miss rows."""
        publisher, stopping, random_s = FakePublisher(), asyncio.Event(), random.Random(7)
        relay = FactRelay(worker, publisher, FACTS, fast_clock(1))
        running = asyncio.create_task(relay.run(stopping))

        async def write(writer: int) -> None:
            for number in range(25):
                async with api.transaction("acme") as connection:
                    await FactOutbox(connection, FACTS).add([_fact(writer * 1000 + number)], MARCH_1)
                    await asyncio.sleep(random_s.uniform(0, 0.02))

        await asyncio.gather(*map(write, range(16)))
        await until(lambda: len(publisher.messages) == 400)
        stopping.set()
        await running

        assert len({message.msg_id for message in publisher.messages}) == 400

    async def test_a_crash_after_the_publish_repeats_it_under_the_same_id(
        self, api: Database, worker: Database, broker: Client
    ) -> None:
        stream = broker.jetstream()
        await stream.add_stream(StreamConfig(name="FACTS", subjects=["billing.invoice.>"]))
        clock, real, crashes = FakeClock(), NatsPublisher(stream), 0

        async def store_and_crash(message: Published) -> None:
            nonlocal crashes
            await real.publish(message.subject, message.payload, message.msg_id, message.headers)
            crashes += 1
            raise Crash

        await _add(api, *(_fact(number) for number in range(10)))
        with pytest.raises(Crash):
            await FactRelay(worker, FakePublisher(before=store_and_crash), FACTS, clock).relay_once()
        assert crashes > 0
        relay = FactRelay(worker, real, FACTS, clock)
        assert await relay.relay_once() == 0  # Claimed, until the lease ends.
        clock.advance(seconds=30)
        assert await relay.relay_once() == 10

        assert (await stream.stream_info("FACTS")).state.messages == 10

    async def test_what_was_not_acknowledged_is_sent_again_later_and_later(
        self, api: Database, worker: Database
    ) -> None:
        async def refuse(message: Published) -> None:
            if message.msg_id == "acme:issued:1":
                raise TimeoutError

        clock, publisher = FakeClock(), FakePublisher(before=refuse)
        relay = FactRelay(worker, publisher, FACTS, clock)
        await _add(api, _fact(1), _fact(2))

        tried_after: list[timedelta] = []
        for _ in range(600):
            failed = relay.failed_total
            await relay.relay_once()
            if relay.failed_total > failed:
                tried_after.append(clock.now - MARCH_1)
            clock.advance(seconds=1)
        assert [message.msg_id for message in publisher.messages] == ["acme:issued:2"]
        gaps = [int((later - earlier).total_seconds()) for earlier, later in pairwise(tried_after)]
        assert gaps[0] == 1
        assert gaps == sorted(gaps)
        assert gaps[-1] == 60

        publisher.before = None
        clock.advance(minutes=1)
        assert await relay.relay_once() == 1

    async def test_no_transaction_is_open_during_a_publish(
        self, api: Database, worker: Database, server: ServiceDatabase
    ) -> None:
        states: list[str] = []

        async def look(message: Published) -> None:
            connection = await asyncpg.connect(server.worker_url)
            rows = await connection.fetch("SELECT state FROM pg_stat_activity WHERE application_name = 'worker'")
            states.extend(row["state"] for row in rows)
            await connection.close()

        await _add(api, _fact(1))
        await FactRelay(worker, FakePublisher(before=look), FACTS, FakeClock()).relay_once()

        assert states
        assert set(states) == {"idle"}

    async def test_wakes_at_once(self, api: Database, worker: Database) -> None:
        publisher, stopping = FakePublisher(), asyncio.Event()
        relay = FactRelay(worker, publisher, FACTS, fast_clock(1))
        running = asyncio.create_task(relay.run(stopping))
        await asyncio.sleep(1.6)  # By now it rests for a second at a time.
        await _add(api, _fact(1))
        relay.wake.set()
        await until(lambda: len(publisher.messages) == 1, timeout_s=0.4)
        stopping.set()
        await asyncio.wait_for(running, 0.5)

    async def test_goes_on_after_an_outage_of_the_database(self, api: Database, server: ServiceDatabase) -> None:
        worker = Database(server.worker_url, "worker", application_name="broken", pool_size=2)
        publisher, stopping = FakePublisher(), asyncio.Event()
        running = asyncio.create_task(FactRelay(worker, publisher, FACTS, fast_clock(1)).run(stopping))
        killer = await asyncpg.connect(server.worker_url)
        for _ in range(20):
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'broken'"
            )
            await asyncio.sleep(0.02)
        await killer.close()
        await _add(api, _fact(1))
        await until(lambda: len(publisher.messages) == 1 or running.done())
        stopping.set()
        await running
        assert len(publisher.messages) == 1
        await worker.dispose()

    async def test_prunes_what_was_published_long_ago(self, api: Database, worker: Database) -> None:
        clock = FakeClock()
        relay = FactRelay(worker, FakePublisher(), FACTS, clock)
        await _add(api, *(_fact(number) for number in range(700)))
        await _add(api, _fact(1, tenant="bolt"))
        while await relay.relay_once():
            pass
        await _add(api, _fact(9999))  # Never published, so never pruned.
        clock.advance(days=6)
        assert await relay.prune(clock.now - KEPT) == 0
        clock.advance(days=2)

        assert [await relay.prune(clock.now - KEPT) for _ in range(3)] == [500, 201, 0]
        assert [row["event_id"] for row in await rows_of(worker, FACTS.queue)] == ["acme:issued:9999"]
        async with worker.transaction("acme", "bolt") as connection:
            left = (await connection.execute(sa.select(FACTS.facts.c.event_id))).scalars().all()
        assert left == ["acme:issued:9999"]

    async def test_prunes_by_itself(self, api: Database, worker: Database) -> None:
        stopping = asyncio.Event()
        clock = FakeClock()
        relay = FactRelay(worker, FakePublisher(), FACTS, clock)
        await _add(api, _fact(1))
        running = asyncio.create_task(relay.run(stopping))
        await until(lambda: relay.published_total == 1)
        clock.advance(days=8)
        async with asyncio.timeout(5):
            while await rows_of(worker, FACTS.queue):
                relay.wake.set()
                await asyncio.sleep(0.02)
        stopping.set()
        await running
