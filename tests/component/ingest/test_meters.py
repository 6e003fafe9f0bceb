"""Meters on their way into the directory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client

from libs.database import Database
from libs.embedded.nats_server import EmbeddedNats
from libs.messaging import DIRECTORY, DirectoryPublisher, JetStreamPublisher, connect, ensure_streams
from services.ingest.domain.meter import Meter
from services.ingest.messaging.meter_directory import MeterDirectory
from services.ingest.store.meter_publications import PostgresMeterPublications
from steelyard.ingest.v1 import directory_pb2
from tests.component.ingest.builders import NOON, a_meter, add_meters


@pytest.fixture
async def connection(own_nats: EmbeddedNats) -> AsyncIterator[Client]:
    client = await connect(own_nats.url, name="test")
    await ensure_streams(client.jetstream(), [DIRECTORY])
    yield client
    await client.close()


async def due(publications: PostgresMeterPublications, now: datetime = NOON) -> list[tuple[str, Meter]]:
    """Publish what is due, to nobody."""
    async with publications.locked(now) as held:
        return held


class TestMeterDirectory:
    async def test_a_meter_is_published_as_it_is_stored_and_once(
        self, api: Database, worker: Database, connection: Client
    ) -> None:
        js = connection.jetstream()
        directory = MeterDirectory(
            PostgresMeterPublications(worker), DirectoryPublisher(JetStreamPublisher(js)), lambda: NOON
        )
        await add_meters(api, a_meter("tokens", group_by=["model"], filters=[("region", "eu")]))

        await directory.publish_now()
        await directory.publish_now()

        message = await js.get_last_msg(DIRECTORY.name, "directory.meter.acme.tokens")
        entry = directory_pb2.MeterEntry.FromString(message.data or b"")
        assert (entry.tenant_id, entry.meter.expression, list(entry.meter.group_by)) == ("acme", "tokens", ["model"])
        assert [(item.property, item.value) for item in entry.meter.filters] == [("region", "eu")]
        assert entry.meter.create_time.ToDatetime(UTC) == NOON
        assert (await js.stream_info(DIRECTORY.name)).state.messages == 1

    async def test_a_process_that_dies_with_a_meter_leaves_it_to_the_next(
        self, api: Database, worker: Database
    ) -> None:
        publications = PostgresMeterPublications(worker)
        await add_meters(api, a_meter())

        with contextlib.suppress(ConnectionError):
            async with publications.locked(NOON) as held:
                assert [(tenant_id, meter.meter_id) for tenant_id, meter in held] == [("acme", "tokens")]
                assert await due(publications) == []
                raise ConnectionError

        assert await due(publications) == held
        assert await due(publications) == []

    async def test_those_of_all_tenants_go_together(self, api: Database, worker: Database) -> None:
        publications = PostgresMeterPublications(worker)
        for tenant in ("acme", "beta"):
            await add_meters(api, a_meter("a", expression=tenant), a_meter("b"), tenant=tenant)

        held = await due(publications)

        assert sorted((tenant_id, meter.meter_id) for tenant_id, meter in held) == [
            ("acme", "a"),
            ("acme", "b"),
            ("beta", "a"),
            ("beta", "b"),
        ]
        assert {meter.expression for _, meter in held} == {"acme", "beta", "tokens"}

    async def test_everything_is_published_again_when_it_is_asked_for(self, api: Database, worker: Database) -> None:
        publications = PostgresMeterPublications(worker)
        await add_meters(api, a_meter("a"), a_meter("b"))
        await due(publications)
        later = datetime(2027, 1, 1, tzinfo=UTC)
        assert await due(publications, later) == []

        await publications.all_due(later)

        assert sorted(meter.meter_id for _, meter in await due(publications, later)) == ["a", "b"]
