from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType
from nats.js.errors import APIError

from libs.embedded.nats_server import EmbeddedNats
from libs.messaging import BILLING, DIRECTORY, INGEST, PAYMENTS, PRODUCERS, RATING, USAGE_RAW, ensure_streams
from libs.messaging.connection import connect

ALL = [USAGE_RAW, INGEST, RATING, BILLING, PAYMENTS, DIRECTORY, PRODUCERS]


@pytest.fixture
async def empty_js(own_nats: EmbeddedNats) -> AsyncIterator[JetStreamContext]:
    client = await connect(own_nats.url, name="test")
    yield client.jetstream()
    await client.close()


class TestEnsureStreams:
    async def test_all_streams_fit_the_embedded_server_and_keep_what_they_promise(
        self, empty_js: JetStreamContext
    ) -> None:
        await ensure_streams(empty_js, ALL)

        for definition in ALL:
            config = (await empty_js.stream_info(definition.name)).config
            assert config.subjects == list(definition.subjects)
            assert (config.retention, config.storage, config.discard, config.deny_delete, config.deny_purge) == (
                RetentionPolicy.LIMITS,
                StorageType.FILE,
                DiscardPolicy.NEW,
                True,
                definition.name not in {"USAGE_RAW", "PRODUCERS"},
            )
            assert config.max_age == (0 if definition.name in {"DIRECTORY", "PRODUCERS"} else 7 * 86_400)

    async def test_again_and_at_once_changes_nothing(self, empty_js: JetStreamContext) -> None:
        await asyncio.gather(*(ensure_streams(empty_js, ALL) for _ in range(5)))
        created = [(await empty_js.stream_info(stream.name)).created for stream in ALL]

        await ensure_streams(empty_js, ALL)

        assert [(await empty_js.stream_info(stream.name)).created for stream in ALL] == created

    async def test_a_new_definition_updates_the_stream_and_keeps_its_messages(self, empty_js: JetStreamContext) -> None:
        await ensure_streams(empty_js, [USAGE_RAW])
        await empty_js.publish("usage.marker", b"1")

        await ensure_streams(empty_js, [replace(USAGE_RAW, max_bytes=1 << 20)])

        info = await empty_js.stream_info(USAGE_RAW.name)
        assert (info.config.max_bytes, info.state.messages) == (1 << 20, 1)

    async def test_what_the_server_cannot_do_is_an_error(self, empty_js: JetStreamContext) -> None:
        with pytest.raises(APIError):
            await ensure_streams(empty_js, [INGEST], replicas=3)

    async def test_nobody_purges_what_others_have_to_read(self, empty_js: JetStreamContext) -> None:
        await ensure_streams(empty_js, [BILLING])

        with pytest.raises(APIError):
            await empty_js.purge_stream(BILLING.name)
