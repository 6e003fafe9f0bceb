"""EmbeddedNats: what was acknowledged is there after a crash, on the same port."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import nats
from nats.js.api import StreamConfig

from libs.embedded.nats_server import EmbeddedNats


class TestEmbeddedNats:
    async def test_keeps_acknowledged_messages_through_a_crash(self, own_nats: EmbeddedNats) -> None:
        client = await nats.connect(own_nats.url)
        jetstream = client.jetstream()
        await jetstream.add_stream(StreamConfig(name="KEPT", subjects=["kept"]))
        await jetstream.publish("kept", b"x" * 1_000_000)
        await client.close()
        url = own_nats.url

        await asyncio.to_thread(own_nats.kill)
        await asyncio.to_thread(own_nats.start)

        client = await nats.connect(own_nats.url)
        info = await client.jetstream().stream_info("KEPT")
        await client.close()
        assert (info.state.messages, own_nats.url) == (1, url)

    def test_acknowledges_only_what_is_on_disk(self, own_nats: EmbeddedNats) -> None:
        assert "sync_interval: always" in (own_nats.directory / "nats.conf").read_text()

    def test_has_the_name_and_the_further_configuration_it_is_given(self, server_root: Path) -> None:
        directory = server_root / "named-nats"
        directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with (
            EmbeddedNats(directory, name="nats-7", configuration='server_tags: ["seven"]') as server,
            directly.open(f"{server.monitor_url}/varz") as page,
        ):
            told = json.load(page)
        assert (told["server_name"], told["tags"]) == ("nats-7", ["seven"])
