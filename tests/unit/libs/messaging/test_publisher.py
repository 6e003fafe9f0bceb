"""What a publisher says about a message after attempts that went differently."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import nats.errors
import pytest
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

from libs.messaging import JetStreamPublisher, PublishUnknown, StreamFull

FULL = APIError(code=503, err_code=10077, description="maximum bytes exceeded")


class FakeJetStream:
    """Answers publishes as it is told, at the end always that the stream is full."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self._nc = SimpleNamespace(is_connected=True, is_closed=False)

    async def publish(self, *_: object, **__: object) -> PubAck:
        raise self._failures.pop(0) if self._failures else FULL


def a_publisher(*failures: Exception) -> JetStreamPublisher:
    return JetStreamPublisher(cast(JetStreamContext, FakeJetStream(*failures)), deadline_s=0.1)


class TestAFullStream:
    @pytest.mark.parametrize("first", [nats.errors.OutboundBufferLimitError(), NoStreamResponseError(), FULL])
    async def test_has_not_stored_what_never_reached_it(self, first: Exception) -> None:
        with pytest.raises(StreamFull):
            await a_publisher(first).publish("usage.raw.acme", b"1", "acme:1", {})

    @pytest.mark.parametrize(
        "first",
        [
            nats.errors.TimeoutError(),
            nats.errors.StaleConnectionError(),
            ConnectionResetError(),
            APIError(code=503, err_code=10008, description="JetStream system temporarily unavailable"),
        ],
    )
    async def test_may_have_stored_an_attempt_before(self, first: Exception) -> None:
        """Told "not stored", an acceptor would give the number of the message to another one."""
        with pytest.raises(PublishUnknown):
            await a_publisher(first).publish("usage.raw.acme", b"1", "acme:1", {})
