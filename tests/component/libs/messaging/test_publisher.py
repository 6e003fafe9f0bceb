from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError

from libs.embedded.nats_server import EmbeddedNats
from libs.errors import Unavailable
from libs.messaging import USAGE_RAW, JetStreamPublisher, PublishUnknown, StreamDefinition, StreamFull, ensure_streams
from libs.messaging.connection import connect

KEPT = StreamDefinition(name="kept", subjects=("kept.>",))


def _in_process() -> APIError:
    return APIError(code=409, err_code=10158, description="duplicate message id is in process")


class TestJetStreamPublisher:
    async def test_a_message_is_stored_with_its_id_and_headers(
        self, js: JetStreamContext, stream: StreamDefinition
    ) -> None:
        headers = {"traceparent": "00-1-2-01"}

        await JetStreamPublisher(js).publish(f"{stream.name}.a", b"payload", "acme:1", headers)

        message = await js.get_msg(stream.name, 1)
        assert (message.subject, message.data) == (f"{stream.name}.a", b"payload")
        assert message.headers == {"traceparent": "00-1-2-01", "Nats-Msg-Id": "acme:1"}
        assert headers == {"traceparent": "00-1-2-01"}

    async def test_the_same_id_is_stored_once(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        publisher = JetStreamPublisher(js)

        first = await publisher.send(f"{stream.name}.a", b"1", "acme:1", {})
        again = await publisher.send(f"{stream.name}.a", b"1", "acme:1", {})

        assert (first.sequence, first.duplicate) == (1, False)
        assert (again.sequence, again.duplicate) == (1, True)
        assert first.stream == stream.name

    async def test_waits_for_a_stream_that_is_not_there_yet(self, js: JetStreamContext) -> None:
        publishing = asyncio.create_task(JetStreamPublisher(js).send("kept.a", b"1", "acme:1", {}))
        await asyncio.sleep(0.3)
        await ensure_streams(js, [KEPT])

        assert (await publishing).sequence == 1
        await js.delete_stream(KEPT.name)

    async def test_without_an_acknowledgement_the_outcome_is_unknown(self, js: JetStreamContext) -> None:
        publisher = JetStreamPublisher(js, deadline_s=0.4)

        with pytest.raises(PublishUnknown) as raised:
            await publisher.publish("nowhere.a", b"1", "acme:1", {})
        assert isinstance(raised.value, Unavailable)
        assert raised.value.metadata == {"subject": "nowhere.a"}

    async def test_a_full_stream_is_told_at_once(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        await ensure_streams(js, [replace(stream, max_bytes=1_000)])
        publisher = JetStreamPublisher(js)
        started = time.monotonic()

        publishing = (publisher.publish(f"{stream.name}.a", bytes(200), f"acme:{number}", {}) for number in range(10))
        with pytest.raises(StreamFull):
            await asyncio.gather(*publishing)
        assert time.monotonic() - started < 5

    async def test_an_impossible_message_is_not_retried(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        publisher = JetStreamPublisher(js)

        with pytest.raises(nats.errors.MaxPayloadError):
            await publisher.publish(f"{stream.name}.a", bytes((1 << 20) + 1), "acme:1", {})
        await ensure_streams(js, [replace(stream, max_msg_size=10)])
        with pytest.raises(APIError):
            await publisher.publish(f"{stream.name}.a", bytes(11), "acme:2", {})

    async def test_a_cluster_that_still_has_the_message_in_process_is_asked_again(
        self, js: JetStreamContext, stream: StreamDefinition, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish, answers = js.publish, [TimeoutError(), _in_process(), _in_process()]

        async def in_process(*arguments: Any, **options: Any) -> PubAck:
            if answers:
                raise answers.pop(0)
            return await publish(*arguments, **options)

        monkeypatch.setattr(js, "publish", in_process)
        await JetStreamPublisher(js).publish(f"{stream.name}.a", b"1", "acme:1", {})
        assert answers == []
        assert (await js.stream_info(stream.name)).state.messages == 1

        answers += [_in_process()] * 1_000
        with pytest.raises(PublishUnknown):
            await JetStreamPublisher(js, deadline_s=0.3).publish(f"{stream.name}.a", b"2", "acme:2", {})

    async def test_a_closed_connection_ends_the_attempts(self, nats_url: str) -> None:
        client = await connect(nats_url, name="closed")
        publisher = JetStreamPublisher(client.jetstream())
        await client.close()

        with pytest.raises(PublishUnknown):
            await publisher.publish("a.b", b"1", "acme:1", {})

    async def test_waits_while_too_many_are_in_flight(self, js: JetStreamContext, stream: StreamDefinition) -> None:
        publisher = JetStreamPublisher(js, max_in_flight=1, deadline_s=0.5)
        stuck = asyncio.create_task(publisher.publish("nowhere.a", b"1", "acme:1", {}))
        await asyncio.sleep(0)

        with pytest.raises(Unavailable, match="too many"):
            await publisher.send(f"{stream.name}.a", b"1", "acme:2", {}, deadline_s=0.1)
        with pytest.raises(PublishUnknown):
            await stuck
        await publisher.publish(f"{stream.name}.a", b"1", "acme:2", {})
        assert (await js.stream_info(stream.name)).state.messages == 1


class TestOutages:
    async def test_a_paused_server_gets_every_message_once(self, own_nats: EmbeddedNats) -> None:
        client = await connect(own_nats.url, name="test")
        js = client.jetstream()
        await ensure_streams(js, [KEPT])
        publisher = JetStreamPublisher(js, ack_timeout_s=0.2)

        own_nats.child.send_signal(signal.SIGSTOP)
        publishing = asyncio.gather(*(publisher.send("kept.a", b"1", f"acme:{n}", {}) for n in range(50)))
        await asyncio.sleep(1)
        own_nats.child.send_signal(signal.SIGCONT)
        published = await publishing

        assert sorted(message.sequence for message in published) == list(range(1, 51))
        assert any(message.duplicate for message in published)  # The first attempt was stored, unknown to us.
        assert (await js.stream_info(KEPT.name)).state.messages == 50
        await client.close()

    async def test_what_is_acknowledged_survives_a_kill(self, own_nats: EmbeddedNats) -> None:
        client = await connect(own_nats.url, name="test")
        js = client.jetstream()
        await ensure_streams(js, [KEPT])
        publisher = JetStreamPublisher(js, max_in_flight=16)
        publishing = asyncio.gather(*(publisher.send("kept.a", b"1", f"acme:{n}", {}) for n in range(2_000)))
        await asyncio.sleep(0.2)
        own_nats.kill()
        await asyncio.to_thread(own_nats.start)
        published = await publishing

        state = (await js.stream_info(KEPT.name)).state
        assert sorted(message.sequence for message in published) == list(range(1, 2_001))
        assert state.messages == 2_000
        await client.close()

    async def test_attempts_without_a_connection_leave_nothing_behind(self, own_nats: EmbeddedNats) -> None:
        client = await connect(own_nats.url, name="test")
        publisher = JetStreamPublisher(client.jetstream(), deadline_s=1)
        own_nats.stop()
        await asyncio.sleep(0.2)

        with pytest.raises(PublishUnknown):
            await publisher.publish("kept.a", b"1", "acme:1", {})
        assert not client._resp_map
        await client.close()

    async def test_connects_once_a_server_is_there(self, own_nats: EmbeddedNats) -> None:
        own_nats.stop()
        connecting = asyncio.create_task(connect(f"nats://127.0.0.1:1, {own_nats.url}", name="early"))
        await asyncio.sleep(0.6)
        assert not connecting.done()
        await asyncio.to_thread(own_nats.start)

        client: Client = await asyncio.wait_for(connecting, 10)
        assert client.is_connected
        await client.close()


class TestUsageRaw:
    async def test_is_purged_by_its_keeper_but_holds_its_settings(self, own_nats: EmbeddedNats) -> None:
        client = await connect(own_nats.url, name="test")
        js = client.jetstream()
        await ensure_streams(js, [USAGE_RAW])
        for subject in ("usage.raw.acme", "usage.marker"):
            await JetStreamPublisher(js).publish(subject, b"1", f"epoch:{subject}", {})

        await js.purge_stream(USAGE_RAW.name, seq=2)

        info = await js.stream_info(USAGE_RAW.name)
        assert (info.state.first_seq, info.state.last_seq) == (2, 2)
        assert info.config.duplicate_window == 120
        await client.close()
