"""A service with a method of each kind, registered the way generated code does it, and a client for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from libs.rpc import Audience, Authenticator, GrpcServer, IsUnavailable, StoredKey, new_api_key

SERVICE = "test.v1.EchoService"
OPERATOR_KEY = "operator-key-for-tests"
INTERNAL_KEY = "internal-key-for-tests"
ACME_KEY = new_api_key(lambda count: bytes(range(count)))
METHODS = {
    f"{SERVICE}/Echo": Audience.TENANT | Audience.INTERNAL | Audience.OPERATOR,
    f"{SERVICE}/Count": Audience.TENANT,
    f"{SERVICE}/Join": Audience.TENANT,
    f"{SERVICE}/Chat": Audience.TENANT,
    f"{SERVICE}/Administer": Audience.OPERATOR,
}

Context: TypeAlias = "grpc.aio.ServicerContext[StringValue, StringValue]"
Answer = Callable[[str], Awaitable[str]]


async def repeat(text: str) -> str:
    return text


@dataclass
class EchoServicer:
    """`answer` is what Echo does with a text; tests replace it. `served` counts the calls of Echo."""

    answer: Answer = repeat
    served: int = 0
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)

    async def Echo(self, request: StringValue, context: Context) -> StringValue:
        self.served += 1
        return StringValue(value=await self.answer(request.value))

    async def Administer(self, request: StringValue, context: Context) -> StringValue:
        return request

    async def Count(self, request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        try:
            for number in range(int(request.value)):
                yield StringValue(value=await self.answer(str(number)))
        finally:
            self.abandoned.set()

    async def Join(self, requests: AsyncIterator[StringValue], context: Context) -> StringValue:
        return StringValue(value="".join([request.value async for request in requests]))

    async def Chat(self, requests: AsyncIterator[StringValue], context: Context) -> None:
        async for request in requests:
            await context.write(StringValue(value=await self.answer(request.value)))


def add_echo_servicer_to_server(servicer: EchoServicer, server: grpc.aio.Server) -> None:
    read, write = StringValue.FromString, StringValue.SerializeToString
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(servicer.Echo, read, write),
        "Administer": grpc.unary_unary_rpc_method_handler(servicer.Administer, read, write),
        "Count": grpc.unary_stream_rpc_method_handler(servicer.Count, read, write),
        "Join": grpc.stream_unary_rpc_method_handler(servicer.Join, read, write),
        "Chat": grpc.stream_stream_rpc_method_handler(servicer.Chat, read, write),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


class EchoStub:
    """What a generated stub would be."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        write, read = StringValue.SerializeToString, StringValue.FromString
        self.Echo = channel.unary_unary(f"/{SERVICE}/Echo", write, read)
        self.Administer = channel.unary_unary(f"/{SERVICE}/Administer", write, read)
        self.Count = channel.unary_stream(f"/{SERVICE}/Count", write, read)
        self.Join = channel.stream_unary(f"/{SERVICE}/Join", write, read)
        self.Chat = channel.stream_stream(f"/{SERVICE}/Chat", write, read)


class Keys:
    """A key directory with one key, of the tenant acme."""

    def __init__(self) -> None:
        self.stored = {ACME_KEY.key_id: StoredKey("acme", ACME_KEY.secret_hash)}

    def find(self, key_id: str) -> StoredKey | None:
        return self.stored.get(key_id)


def an_authenticator(keys: Keys | None = None) -> Authenticator:
    return Authenticator(
        keys=keys or Keys(),
        operator_key=OPERATOR_KEY,
        internal_key=INTERNAL_KEY,
        clock=lambda: datetime(2026, 3, 1, tzinfo=UTC),
    )


def an_echo_server(
    servicer: EchoServicer,
    listen: str = "127.0.0.1:0",
    *,
    is_unavailable: IsUnavailable = lambda error: False,
    reflection: bool = False,
    drain_s: float = 0.0,
    max_concurrent_rpcs: int = 200,
) -> GrpcServer:
    server = GrpcServer(
        listen,
        service="test",
        authenticator=an_authenticator(),
        methods=METHODS,
        reflection=reflection,
        is_unavailable=is_unavailable,
        drain_s=drain_s,
        grace_s=1.0,
        max_concurrent_rpcs=max_concurrent_rpcs,
    )
    server.add(servicer, add_echo_servicer_to_server)
    return server
