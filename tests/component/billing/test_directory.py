"""The directory has the current value of every tenant, key, clock and customer, also after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from libs.database import raw
from libs.embedded.nats_server import EmbeddedNats
from libs.messaging import DIRECTORY, DirectoryPublisher, JetStreamPublisher, connect, ensure_streams
from services.billing.messaging.directory import StreamDirectory
from services.billing.store.directory_entries import PostgresDirectoryEntries
from services.billing.usecases.ports import EntryKind
from steelyard.billing.v1 import directory_pb2
from tests.component.billing.world import World, eventually
from tests.unit.billing.fakes import FakeDirectory, utc


@pytest.fixture
async def nats(own_nats: EmbeddedNats) -> AsyncIterator[Client]:
    client = await connect(own_nats.url, name="test")
    await ensure_streams(client.jetstream(), [DIRECTORY])
    yield client
    await client.close()


def a_directory(world: World, nats: Client) -> StreamDirectory:
    return StreamDirectory(
        entries=PostgresDirectoryEntries(world.worker_database),
        publisher=DirectoryPublisher(JetStreamPublisher(nats.jetstream(), deadline_s=2)),
        connection=nats,
        clock=world.real,
        confirming=frozenset({"rating"}),
        confirm_timeout_s=0.5,
    )


async def last(nats: Client, subject: str) -> bytes:
    return (await nats.jetstream().get_last_msg(DIRECTORY.name, subject)).data or b""


async def marks(world: World) -> int:
    async with world.worker_database.queue_transaction() as connection:
        return int(await (await raw(connection)).fetchval("SELECT count(*) FROM directory_marks"))


async def run_once(directory: StreamDirectory, world: World) -> None:
    """Let the relay work until nothing is marked."""
    stopping = asyncio.Event()
    relay = asyncio.create_task(directory.run(stopping))
    await eventually(lambda: _nothing_marked(world))
    stopping.set()
    await relay


async def _nothing_marked(world: World) -> bool:
    return await marks(world) == 0


class TestPublishing:
    async def test_puts_what_every_process_needs(self, world: World, nats: Client) -> None:
        world.directory = a_directory(world, nats)  # type: ignore[assignment]
        await world.add_tenant("acme", utc(2026, 1, 1))
        await world.add_customer("acme", "cust.1 ö")

        tenant = directory_pb2.TenantEntry.FromString(await last(nats, "directory.tenant.acme"))
        clock = directory_pb2.ClockEntry.FromString(await last(nats, "directory.clock.acme"))
        customer = directory_pb2.CustomerEntry.FromString(await last(nats, "directory.customer.acme.cust%2E1%20%C3%B6"))
        assert (tenant.event_past_limit_s, tenant.tenant_id) == (100, "acme")
        assert clock.test_time.ToDatetime().day == 1
        assert customer.customer_id == "cust.1 ö"
        assert await marks(world) == 0

    async def test_a_tenant_in_real_time_has_no_clock_entry(self, world: World, nats: Client) -> None:
        world.directory = a_directory(world, nats)  # type: ignore[assignment]
        await world.add_tenant("acme")
        with pytest.raises(NotFoundError):
            await last(nats, "directory.clock.acme")

    async def test_names_who_has_not_confirmed(self, world: World, nats: Client) -> None:
        await world.add_tenant("acme")
        directory = a_directory(world, nats)
        await directory.publish("acme")
        assert await directory.unconfirmed() == ["rating"]


class TestACrashBetweenCommitAndPublish:
    async def test_is_made_up_for_by_the_relay(self, world: World, nats: Client) -> None:
        assert isinstance(world.directory, FakeDirectory)  # Publishes nothing, like a process that dies.
        await world.add_tenant("acme", utc(2026, 1, 1))
        await world.advance("acme", utc(2026, 1, 9))
        world.real.at += timedelta(seconds=5)

        await run_once(a_directory(world, nats), world)

        clock = directory_pb2.ClockEntry.FromString(await last(nats, "directory.clock.acme"))
        assert clock.test_time.ToDatetime().day == 9

    async def test_a_lost_stream_is_filled_again(self, world: World, nats: Client) -> None:
        directory = a_directory(world, nats)
        world.directory = directory  # type: ignore[assignment]
        await world.add_tenant("acme", utc(2026, 1, 1))
        await world.add_customer("acme")
        await nats.jetstream().delete_stream(DIRECTORY.name)
        await ensure_streams(nats.jetstream(), [DIRECTORY])

        stopping = asyncio.Event()
        relay = asyncio.create_task(directory.run(stopping))

        async def filled() -> bool:
            return (await nats.jetstream().stream_info(DIRECTORY.name)).state.messages == 3

        await eventually(filled)
        stopping.set()
        await relay

        assert directory_pb2.CustomerEntry.FromString(await last(nats, "directory.customer.acme.cust-01")).version

    async def test_an_old_value_never_comes_after_a_newer_one(self, world: World, nats: Client) -> None:
        """While an entry is being published, its next change waits."""
        await world.add_tenant("acme", utc(2026, 1, 1))
        entries = PostgresDirectoryEntries(world.worker_database)

        async with entries.locked("acme") as found:
            assert EntryKind.CLOCK in {entry.kind for entry in found}
            change = asyncio.create_task(world.advance("acme", utc(2026, 1, 2)))
            await asyncio.sleep(0.3)
            assert not change.done()
        await change

        assert await marks(world) == 1
