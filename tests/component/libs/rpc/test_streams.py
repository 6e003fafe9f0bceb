"""Streams over loopback: they outlive the deadline of calls, and end with their key, their server or their age."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from libs.errors import ResourceExhausted, ServiceError, Unauthenticated
from libs.rpc import GrpcServer, StoredKey, Streams, draining, remaining_s, typed_errors
from tests.component.libs.rpc.echo import (
    ACME_KEY,
    METHODS,
    EchoServicer,
    EchoStub,
    Keys,
    add_echo_servicer_to_server,
    an_authenticator,
)

HELLO = StringValue(value="hello")
KEY = (("authorization", f"Bearer {ACME_KEY.text}"),)


@asynccontextmanager
async def serving(
    servicer: EchoServicer, streams: Streams, keys: Keys | None = None, *, max_concurrent_rpcs: int = 200
) -> AsyncIterator[tuple[EchoStub, GrpcServer]]:
    server = GrpcServer(
        "127.0.0.1:0",
        service="test",
        authenticator=an_authenticator(keys),
        methods=METHODS,
        drain_s=0,
        grace_s=5,
        max_concurrent_rpcs=max_concurrent_rpcs,
        streams=streams,
    )
    server.add(servicer, add_echo_servicer_to_server)
    port = await server.start()
    await server.set_ready(True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield EchoStub(opened), server
    await server.stop()


async def typed_end(call: grpc.aio.StreamStreamCall[Message, StringValue]) -> ServiceError:
    with pytest.raises(ServiceError) as caught, typed_errors():
        await asyncio.wait_for(call.read(), 10)
    return caught.value


class TestStreams:
    async def test_have_no_deadline_but_that_of_their_client(self) -> None:
        servicer = EchoServicer()

        async def left(text: str) -> str:
            return str(remaining_s())

        servicer.answer = left
        async with serving(servicer, Streams(5, 5)) as (stub, _):
            free, bound = stub.Chat(metadata=KEY), stub.Chat(metadata=KEY, timeout=30)
            for call in (free, bound):
                await call.write(HELLO)
            answers = [await free.read(), await bound.read()]
            free.cancel()
            bound.cancel()

        assert answers[0] == StringValue(value="None")
        assert isinstance(answers[1], StringValue)
        assert 20 < float(answers[1].value) < 31

    async def test_take_no_calls_away_and_are_bounded_themselves(self) -> None:
        async with serving(EchoServicer(), Streams(2, 2), max_concurrent_rpcs=1) as (stub, _):
            held = [stub.Chat(metadata=KEY) for _ in range(2)]
            for call in held:
                await call.write(HELLO)
                await call.read()
            refused = await typed_end(stub.Chat(metadata=KEY))
            answer = await stub.Echo(HELLO, metadata=KEY, timeout=5)
            for call in held:
                call.cancel()

        assert isinstance(refused, ResourceExhausted)
        assert (refused.reason, answer.value) == ("TOO_MANY_STREAMS", "hello")
        assert refused.retry_after_s is not None

    async def test_end_soon_after_their_key_was_revoked(self) -> None:
        keys = Keys()
        async with serving(EchoServicer(), Streams(5, 5, check_s=0.02), keys) as (stub, _):
            call = stub.Chat(metadata=KEY)
            await call.write(HELLO)
            await call.read()
            keys.stored[ACME_KEY.key_id] = StoredKey("acme", ACME_KEY.secret_hash, revoked=True)
            error = await typed_end(call)

        assert isinstance(error, Unauthenticated)
        assert error.reason == "API_KEY_REVOKED"

    @pytest.mark.parametrize("by", ["age", "stop"])
    async def test_are_asked_to_end(self, by: str) -> None:
        servicer, arrived = EchoServicer(), asyncio.Event()

        async def until_asked(text: str) -> str:
            arrived.set()
            await draining().wait()
            return f"{text}, and good bye"

        servicer.answer = until_asked
        streams = Streams(5, 5, age_s=0.05 if by == "age" else 3_600)
        async with serving(servicer, streams) as (stub, server):
            call = stub.Chat(metadata=KEY)
            await call.write(HELLO)
            await asyncio.wait_for(arrived.wait(), 10)
            stopping = asyncio.create_task(server.stop()) if by == "stop" else None
            answer = await asyncio.wait_for(call.read(), 10)
            await call.done_writing()
            code = await call.code()
            if stopping is not None:
                await stopping

        assert answer == StringValue(value="hello, and good bye")
        assert code is grpc.StatusCode.OK
