from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, SequenceInfo

from libs.embedded.nats_server import EmbeddedNats
from libs.messaging import (
    DIRECTORY,
    DirectoryNotConfirmed,
    DirectoryPublisher,
    DirectoryReader,
    JetStreamPublisher,
    UnreadableMessage,
    confirm_applied,
    directory_subject,
    ensure_streams,
)
from libs.messaging.connection import connect
from libs.messaging.fetcher import Fetcher
from tests.component.libs.messaging.conftest import until


class Reader:
    """A process that reads the directory over a connection of its own."""

    def __init__(self, client: Client, service: str, instance: str, subjects: Sequence[str]) -> None:
        self.entries: dict[tuple[str, ...], bytes | None] = {}
        self.sequences: list[int] = []
        self.directory = DirectoryReader(
            client.jetstream(), client, service=service, instance=instance, subjects=subjects
        )
        for kind in ("customer", "clock"):
            self.directory.on_entry(kind, self._apply)

    def _apply(self, ids: tuple[str, ...], payload: bytes | None, sequence: int) -> None:
        if payload == b"unreadable":
            raise UnreadableMessage("not a customer")
        self.entries[ids] = payload
        self.sequences.append(sequence)


@asynccontextmanager
async def reading(
    url: str, service: str = "rating", instance: str = "r-1", subjects: Sequence[str] = ("directory.>",)
) -> AsyncIterator[Reader]:
    client = await connect(url, name=instance)
    reader = Reader(client, service, instance, subjects)
    stopping = asyncio.Event()
    task = asyncio.create_task(reader.directory.run(stopping))
    try:
        yield reader
    finally:
        stopping.set()
        async with asyncio.timeout(15):
            await task
        await client.close()


class Owner:
    """Puts customers; the message ids are fresh each time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._publisher = DirectoryPublisher(JetStreamPublisher(client.jetstream(), ack_timeout_s=0.5))
        self._puts = 0

    async def put(self, customer_id: str, payload: bytes, kind: str = "customer") -> int:
        self._puts += 1
        return await self._publisher.put(directory_subject(kind, "acme", customer_id), payload, f"acme:{self._puts}")


@pytest.fixture
async def owner(own_nats: EmbeddedNats) -> AsyncIterator[Owner]:
    client = await connect(own_nats.url, name="owner")
    await ensure_streams(client.jetstream(), [DIRECTORY])
    yield Owner(client)
    await client.close()


async def _ready(reader: Reader) -> None:
    async with asyncio.timeout(10):
        await reader.directory.ready()


def be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have entries arrive a moment late, and the server say that nothing is pending until then: it does say so until it
    has counted an entry that it stores already."""
    consumer_info, fetch = JetStreamContext.consumer_info, Fetcher.fetch

    async def count_late(self: JetStreamContext, stream: str, consumer: str) -> ConsumerInfo:
        info = await consumer_info(self, stream, consumer)
        late: ConsumerInfo = replace(info, num_pending=0, delivered=SequenceInfo(consumer_seq=0, stream_seq=0))
        return late

    async def fetch_late(self: Fetcher, limit: int) -> list[Msg]:
        messages = await fetch(self, limit)
        await asyncio.sleep(0.1)
        return messages

    monkeypatch.setattr(JetStreamContext, "consumer_info", count_late)
    monkeypatch.setattr(Fetcher, "fetch", fetch_late)


class TestReading:
    async def test_loads_the_last_value_of_each_subject_and_then_follows(
        self, own_nats: EmbeddedNats, owner: Owner
    ) -> None:
        for version in range(3):
            for number in range(600):
                await owner.put(f"cus.{number}", str(version).encode())
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            assert reader.entries == {("acme", f"cus.{number}"): b"2" for number in range(600)}
            assert len(reader.sequences) == 600

            sequence = await owner.put("new", b"1")
            await until(lambda: reader.directory.applied_sequence == sequence)
            assert reader.entries["acme", "new"] == b"1"

    async def test_an_empty_directory_is_ready_at_once(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            assert reader.entries == {}

    async def test_an_empty_value_removes_the_entry(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        await owner.put("a", b"1")
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            await owner.put("a", b"")
            await until(lambda: reader.entries["acme", "a"] is None)

    async def test_entries_it_cannot_read_or_has_no_use_for_are_passed_over(
        self, own_nats: EmbeddedNats, owner: Owner
    ) -> None:
        await owner.put("bad", b"unreadable")
        await owner.put("meter", b"1", kind="meter")
        await owner.client.jetstream().publish("directory.customer.acme.%zz", b"1")
        sequence = await owner.put("good", b"1")

        async with reading(own_nats.url) as reader:
            await _ready(reader)
            assert reader.entries == {("acme", "good"): b"1"}
            assert reader.directory.applied_sequence == sequence

    async def test_a_mistake_in_an_applier_ends_the_run(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        client = await connect(own_nats.url, name="broken")
        directory = DirectoryReader(client.jetstream(), client, service="a", instance="b", subjects=["directory.>"])

        def broken(ids: tuple[str, ...], payload: bytes | None, sequence: int) -> None:
            raise ZeroDivisionError

        directory.on_entry("customer", broken)
        await owner.put("a", b"1")

        with pytest.raises(ZeroDivisionError):
            await directory.run(asyncio.Event())
        await client.close()


class TestLosses:
    async def test_a_killed_server_costs_no_entry_and_no_step_back(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        await owner.put("kept", b"0")
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            for version in range(1, 4):
                putting = asyncio.gather(*(owner.put(f"{name}", str(version).encode()) for name in "abc"))
                own_nats.kill()
                await asyncio.to_thread(own_nats.start)
                sequences = await putting
                await until(lambda sequences=sequences: reader.directory.applied_sequence >= max(sequences))  # type: ignore[misc]
                assert [reader.entries["acme", name] for name in "abc"] == [str(version).encode()] * 3

            assert reader.sequences == sorted(set(reader.sequences))  # Loading again has not applied `kept` again.

    @pytest.mark.parametrize("entries", [1, 10])
    async def test_entries_that_do_not_arrive_are_noticed(
        self, own_nats: EmbeddedNats, owner: Owner, entries: int
    ) -> None:
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            js = owner.client.jetstream()
            [consumer] = await js.consumers_info(DIRECTORY.name)
            thief = await js.pull_subscribe_bind(consumer=consumer.name, stream=DIRECTORY.name)
            stealing = asyncio.create_task(thief.fetch(1, timeout=5))
            await asyncio.sleep(1.2)  # By now the thief's request is older than the reader's, and is served first.
            for number in range(entries):
                await owner.put(f"{number}", b"1")
            assert len(await stealing) == 1

            await until(lambda: len(reader.entries) == entries)

    async def test_no_entry_is_lost_while_others_ask_whether_it_is_applied(
        self, own_nats: EmbeddedNats, owner: Owner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            be_late(monkeypatch)
            for number in range(10):
                sequence = await owner.put(f"{number}", b"1")
                await confirm_applied(owner.client, sequence, expect_services={"rating"}, hello_window_s=0)
                assert ("acme", f"{number}") in reader.entries

    async def test_a_lost_consumer_is_replaced(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        async with reading(own_nats.url) as reader:
            await owner.put("a", b"1")
            await _ready(reader)
            js = owner.client.jetstream()
            [consumer] = await js.consumers_info(DIRECTORY.name)
            await js.delete_consumer(DIRECTORY.name, consumer.name)
            sequence = await owner.put("a", b"2")
            await until(lambda: reader.directory.applied_sequence == sequence)

        assert reader.sequences == [1, 2]

    async def test_follows_a_recreated_stream_and_keeps_what_it_knew(
        self, own_nats: EmbeddedNats, owner: Owner
    ) -> None:
        js = owner.client.jetstream()
        for version in range(5):
            await owner.put("a", str(version).encode())
        await owner.put("b", b"known")
        async with reading(own_nats.url) as reader:
            await _ready(reader)
            await js.delete_stream(DIRECTORY.name)
            await ensure_streams(js, [DIRECTORY])
            await owner.put("a", b"new life")
            await until(lambda: reader.entries["acme", "a"] == b"new life")

        assert reader.entries["acme", "b"] == b"known"
        assert reader.directory.applied_sequence == 1

    async def test_waits_for_the_stream(self, own_nats: EmbeddedNats) -> None:
        async with reading(own_nats.url) as reader:
            await asyncio.sleep(0.3)
            client = await connect(own_nats.url, name="owner")
            await ensure_streams(client.jetstream(), [DIRECTORY])
            await _ready(reader)
            await client.close()


class TestConfirmApplied:
    async def test_returns_when_all_processes_have_applied_the_entry(
        self, own_nats: EmbeddedNats, owner: Owner
    ) -> None:
        async with (
            reading(own_nats.url, "rating", "r-1") as rating,
            reading(own_nats.url, "billing", "b-1") as billing,
        ):
            for version in range(3):
                sequence = await owner.put("acme", str(version).encode(), kind="clock")
                await confirm_applied(owner.client, sequence, expect_services={"rating", "billing"})
                for reader in (rating, billing):
                    assert reader.entries["acme", "acme"] == str(version).encode()

    async def test_names_a_service_that_does_not_answer(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        sequence = await owner.put("acme", b"1", kind="clock")
        async with reading(own_nats.url, "rating", "r-1"):
            with pytest.raises(DirectoryNotConfirmed) as raised:
                await confirm_applied(owner.client, sequence, expect_services={"rating", "payments"}, timeout_s=1)

        assert set(raised.value.services) == {"payments"}
        assert not raised.value.instances

    async def test_names_an_instance_that_has_not_applied_it(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        sequence = await owner.put("acme", b"1", kind="clock")
        async with reading(own_nats.url, "rating", "r-1"):
            with pytest.raises(DirectoryNotConfirmed) as raised:
                await confirm_applied(owner.client, sequence + 1, expect_services={"rating"}, timeout_s=1)

        assert set(raised.value.instances) == {"rating/r-1"}
        assert not raised.value.services

    async def test_waits_for_a_service_that_starts_meanwhile(self, own_nats: EmbeddedNats, owner: Owner) -> None:
        sequence = await owner.put("acme", b"1", kind="clock")
        confirming = asyncio.create_task(confirm_applied(owner.client, sequence, expect_services={"rating"}))
        await asyncio.sleep(0.6)
        assert not confirming.done()
        async with reading(own_nats.url, "rating", "r-1"):
            await confirming

    async def test_a_process_that_does_not_read_such_entries_confirms_too(
        self, own_nats: EmbeddedNats, owner: Owner
    ) -> None:
        async with reading(own_nats.url, "rating", "r-1", subjects=["directory.customer.>"]) as reader:
            await owner.put("a", b"1")
            await _ready(reader)
            sequence = await owner.put("acme", b"1", kind="clock")

            await confirm_applied(owner.client, sequence, expect_services={"rating"}, timeout_s=2)

        assert reader.entries == {("acme", "a"): b"1"}

    async def test_without_expectations_and_readers_there_is_nothing_to_wait_for(self, owner: Owner) -> None:
        await confirm_applied(owner.client, await owner.put("a", b"1"), expect_services=set())
