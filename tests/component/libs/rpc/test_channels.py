"""Channels between real servers: deadlines passed on, retries, replicas, credentials, and a stop without errors."""

from __future__ import annotations

import asyncio
import socket
from decimal import Decimal

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from libs.errors import DeadlineExceeded, Unavailable
from libs.rpc import as_tenant, channel, current_tenant, internal_channel, remaining_s, typed_errors
from tests.component.libs.rpc.echo import ACME_KEY, INTERNAL_KEY, EchoServicer, EchoStub, an_echo_server

HELLO = StringValue(value="hello")


async def left(text: str) -> str:
    return str(remaining_s())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


class TestDeadlines:
    async def test_a_call_without_timeout_gets_the_channels(self, target: str, servicer: EchoServicer) -> None:
        servicer.answer = left
        async with channel(target, key=ACME_KEY.text, timeout_s=4) as opened:
            stub = EchoStub(opened)
            default = await stub.Echo(HELLO)
            own = await stub.Echo(HELLO, timeout=20)

        assert 3.5 < float(default.value) < 4.5
        assert 19 < float(own.value) < 21

    async def test_a_call_made_while_serving_gets_what_is_left(self, target: str, servicer: EchoServicer) -> None:
        servicer.answer = left
        front = EchoServicer()
        server = an_echo_server(front)
        port = await server.start()
        await server.set_ready(True)
        async with channel(target, key=ACME_KEY.text) as to_back:

            async def ask_back(text: str) -> str:
                return (await EchoStub(to_back).Echo(HELLO, timeout=60)).value

            front.answer = ask_back
            async with channel(f"127.0.0.1:{port}", key=ACME_KEY.text) as to_front:
                answer = await EchoStub(to_front).Echo(HELLO, timeout=2)
        await server.stop()

        assert 1.5 < float(answer.value) < 2

    async def test_no_call_is_made_with_almost_no_time(self, target: str, servicer: EchoServicer) -> None:
        front = EchoServicer()
        server = an_echo_server(front)
        port = await server.start()
        await server.set_ready(True)
        async with channel(target, key=ACME_KEY.text) as to_back:

            async def ask_back_too_late(text: str) -> str:
                await asyncio.sleep((remaining_s() or 0) - 0.02)
                return (await EchoStub(to_back).Echo(HELLO)).value

            front.answer = ask_back_too_late
            async with channel(f"127.0.0.1:{port}", key=ACME_KEY.text) as to_front:
                with pytest.raises(DeadlineExceeded), typed_errors():
                    await EchoStub(to_front).Echo(HELLO, timeout=0.5)
        await server.stop()

        assert servicer.served == 0

    async def test_leaving_a_call_cancels_it_at_the_server(self, stub: EchoStub, servicer: EchoServicer) -> None:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(text: str) -> str:
            begun.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return text

        servicer.answer = hang
        waiting = asyncio.ensure_future(stub.Echo(HELLO, timeout=20))
        await asyncio.wait_for(begun.wait(), 2)
        waiting.cancel()

        await asyncio.wait_for(cancelled.wait(), 2)


class TestCredentials:
    async def test_internal_channel_acts_for_the_tenant_named_per_call(
        self, target: str, servicer: EchoServicer
    ) -> None:
        async def tenant(text: str) -> str:
            return current_tenant()

        servicer.answer = tenant
        async with internal_channel(target, INTERNAL_KEY) as opened:
            answer = await EchoStub(opened).Echo(HELLO, metadata=as_tenant("globex"))

        assert answer.value == "globex"

    async def test_streams_carry_credentials_too(self, stub: EchoStub) -> None:
        count = [answer.value async for answer in stub.Count(StringValue(value="1"))]
        join = await stub.Join(iter([HELLO]))
        chat = [answer.value async for answer in stub.Chat(iter([HELLO]))]

        assert (count, join.value, chat) == (["0"], "hello", ["hello"])


class TestRetries:
    @pytest.mark.parametrize(
        ("retry_after_s", "attempts"),
        [(Decimal("0.01"), 4), (Decimal(30), 1)],
        ids=["short", "long"],
    )
    async def test_are_made_by_grpc_unless_the_server_wants_more_time(
        self, stub: EchoStub, servicer: EchoServicer, retry_after_s: Decimal, attempts: int
    ) -> None:
        async def away(text: str) -> str:
            raise Unavailable("away", reason="AWAY", retry_after_s=retry_after_s)

        servicer.answer = away
        with pytest.raises(Unavailable) as caught, typed_errors():
            await stub.Echo(HELLO)

        assert servicer.served == attempts
        assert (caught.value.reason, caught.value.retry_after_s) == ("AWAY", retry_after_s)


class TestAvailability:
    async def test_waits_out_a_server_that_starts_late(self) -> None:
        port = free_port()
        server = an_echo_server(EchoServicer(), f"127.0.0.1:{port}")

        async with channel(f"127.0.0.1:{port}", key=ACME_KEY.text) as opened:
            call = asyncio.ensure_future(EchoStub(opened).Echo(HELLO, wait_for_ready=True))
            await asyncio.sleep(0.3)
            await server.start()
            await server.set_ready(True)
            answer = await call
        await server.stop()

        assert answer.value == "hello"

    async def test_calls_go_round_the_replicas_that_are_ready(self) -> None:
        servicers = [EchoServicer(), EchoServicer(), EchoServicer()]
        servers = [an_echo_server(servicer) for servicer in servicers]
        ports = [await server.start() for server in servers]
        await servers[0].set_ready(True)
        await servers[1].set_ready(True)  # The third stays out.
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        async with channel(f"ipv4:{addresses}", key=ACME_KEY.text) as opened:
            stub = EchoStub(opened)
            while not all(servicer.served for servicer in servicers[:2]):
                await stub.Echo(HELLO)
            before = [servicer.served for servicer in servicers]
            for _ in range(20):
                await stub.Echo(HELLO)
            after = [servicer.served for servicer in servicers]
        await asyncio.gather(*(server.stop() for server in servers))

        assert [new - old for old, new in zip(before, after, strict=True)] == [10, 10, 0]

    async def test_no_call_fails_while_a_replica_drains(self) -> None:
        servicers = [EchoServicer(), EchoServicer()]
        servers = [an_echo_server(servicer, drain_s=0.5) for servicer in servicers]
        ports = [await server.start() for server in servers]
        for server in servers:
            await server.set_ready(True)
        answered = 0
        stopping = asyncio.Event()
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        async with channel(f"ipv4:{addresses}", key=ACME_KEY.text) as opened:
            stub = EchoStub(opened)

            async def keep_calling() -> None:
                nonlocal answered
                while not stopping.is_set():
                    await stub.Echo(HELLO)
                    answered += 1

            async with asyncio.TaskGroup() as tasks:
                for _ in range(20):
                    tasks.create_task(keep_calling())
                await asyncio.sleep(0.3)
                await servers[0].stop()
                served_by_the_stopped = servicers[0].served
                at_stop = answered
                await asyncio.sleep(0.2)
                stopping.set()
        await servers[1].stop()

        assert answered > at_stop > 0
        assert servicers[0].served == served_by_the_stopped > 0

    async def test_calls_in_flight_may_finish_while_the_server_stops(self) -> None:
        servicer = EchoServicer()
        begun = asyncio.Event()

        async def slowly(text: str) -> str:
            begun.set()
            await asyncio.sleep(0.3)
            return text

        servicer.answer = slowly
        server = an_echo_server(servicer)
        port = await server.start()
        await server.set_ready(True)
        async with channel(f"127.0.0.1:{port}", key=ACME_KEY.text) as opened:
            call = asyncio.ensure_future(EchoStub(opened).Echo(HELLO))
            await begun.wait()
            await server.stop()
            answer = await call

        assert answer.value == "hello"

    async def test_unavailable_is_retried(self, target: str, servicer: EchoServicer) -> None:
        async def fail_twice(text: str) -> str:
            if servicer.served < 3:
                raise ConnectionResetError
            return text

        servicer.answer = fail_twice
        async with channel(target, key=ACME_KEY.text) as opened:
            answer = await EchoStub(opened).Echo(HELLO)

        assert (answer.value, servicer.served) == ("hello", 3)

    async def test_retries_end(self, target: str, servicer: EchoServicer) -> None:
        async def fail(text: str) -> str:
            raise ConnectionResetError

        servicer.answer = fail
        async with channel(target, key=ACME_KEY.text) as opened:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await EchoStub(opened).Echo(HELLO)

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert servicer.served == 4
