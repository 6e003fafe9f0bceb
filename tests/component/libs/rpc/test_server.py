"""The server over loopback: who may call, how calls fail, which deadlines they have, what health says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from decimal import Decimal

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.embedded.machine import free_port
from libs.errors import AlreadyExists, InvalidInput, NotFound, ServiceError, Unavailable, Violation
from libs.rpc import Audience, GrpcServer, as_tenant, current_principal, current_tenant, remaining_s, typed_errors
from libs.rpc.errors import STATUS_DETAILS
from tests.component.libs.rpc.echo import (
    ACME_KEY,
    INTERNAL_KEY,
    METHODS,
    OPERATOR_KEY,
    SERVICE,
    EchoServicer,
    EchoStub,
    add_echo_servicer_to_server,
    an_authenticator,
    an_echo_server,
)

HELLO = StringValue(value="hello")


async def is_set(event: asyncio.Event) -> None:
    await event.wait()


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def raw_call(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[StringValue, StringValue]:
    return channel.unary_unary(f"/{method}", StringValue.SerializeToString, StringValue.FromString)


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    (encoded,) = [value for key, value in error.trailing_metadata() if key == STATUS_DETAILS]
    assert isinstance(encoded, bytes)
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in Status.FromString(encoded).details)
    return info


async def failure(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def typed_failure(call: Awaitable[object]) -> ServiceError:
    with pytest.raises(ServiceError) as caught, typed_errors():
        await call
    return caught.value


class TestKindsOfCalls:
    async def test_unary(self, stub: EchoStub) -> None:
        assert (await stub.Echo(HELLO)).value == "hello"

    async def test_answers_in_a_stream(self, stub: EchoStub) -> None:
        answers = [answer.value async for answer in stub.Count(StringValue(value="3"))]

        assert answers == ["0", "1", "2"]

    async def test_requests_in_a_stream(self, stub: EchoStub) -> None:
        answer = await stub.Join(iter([StringValue(value="a"), StringValue(value="b")]))

        assert answer.value == "ab"

    async def test_both_in_streams_with_a_handler_that_writes(self, stub: EchoStub) -> None:
        answers = [a.value async for a in stub.Chat(iter([StringValue(value="a"), StringValue(value="b")]))]

        assert answers == ["a", "b"]

    @pytest.mark.parametrize("method", ["Count", "Chat"])
    async def test_a_stream_fails_with_typed_errors(self, method: str, stub: EchoStub, servicer: EchoServicer) -> None:
        async def answer(text: str) -> str:
            raise NotFound("no such number", reason="NUMBER_NOT_FOUND")

        servicer.answer = answer
        request = StringValue(value="1")
        call = stub.Count(request) if method == "Count" else stub.Chat(iter([request]))

        with pytest.raises(NotFound) as caught, typed_errors():
            _ = [answer async for answer in call]

        assert caught.value.reason == "NUMBER_NOT_FOUND"

    async def test_a_stream_that_its_client_leaves_is_finished(
        self, stub: EchoStub, servicer: EchoServicer, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def slowly(text: str) -> str:
            await asyncio.sleep(0.02)
            return text

        servicer.answer = slowly
        call = stub.Count(StringValue(value="1000"))
        async for _ in call:
            break
        call.cancel()

        await asyncio.wait_for(servicer.abandoned.wait(), 2)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


class TestAuthentication:
    @pytest.mark.parametrize(
        ("metadata", "reason"),
        [
            ((), "API_KEY_MISSING"),
            ((("authorization", "Basic YTpi"),), "API_KEY_MISSING"),
            (bearer("nonsense"), "API_KEY_INVALID"),
            (bearer(ACME_KEY.text[:-1] + "0"), "API_KEY_INVALID"),
        ],
    )
    @pytest.mark.parametrize("method", sorted(METHODS))
    async def test_every_method_refuses_bad_credentials(
        self, method: str, metadata: tuple[tuple[str, str], ...], reason: str, bare_channel: grpc.aio.Channel
    ) -> None:
        # Also right for the streams: on the wire a single request is a stream of one.
        error = await failure(raw_call(bare_channel, method)(HELLO, metadata=metadata, timeout=5))

        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (error_info(error).reason, error_info(error).domain) == (reason, "test.steelyard")

    async def test_a_key_for_another_audience_is_refused(self, bare_channel: grpc.aio.Channel) -> None:
        stub = EchoStub(bare_channel)

        error = await failure(stub.Administer(HELLO, metadata=bearer(ACME_KEY.text)))

        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error_info(error).reason == "METHOD_NOT_ALLOWED"
        assert await stub.Administer(HELLO, metadata=bearer(OPERATOR_KEY)) == HELLO

    async def test_the_handler_sees_the_caller(self, bare_channel: grpc.aio.Channel, servicer: EchoServicer) -> None:
        async def who(text: str) -> str:
            return f"{current_principal().kind.name} {current_tenant()}"

        servicer.answer = who
        stub = EchoStub(bare_channel)

        by_tenant = await stub.Echo(HELLO, metadata=bearer(ACME_KEY.text))
        by_service = await stub.Echo(HELLO, metadata=(*bearer(INTERNAL_KEY), *as_tenant("globex")))

        assert (by_tenant.value, by_service.value) == ("TENANT acme", "INTERNAL globex")

    async def test_concurrent_calls_do_not_see_each_others_caller(
        self, bare_channel: grpc.aio.Channel, servicer: EchoServicer
    ) -> None:
        async def who(text: str) -> str:
            await asyncio.sleep(0.001)
            return current_tenant()

        servicer.answer = who
        stub = EchoStub(bare_channel)
        tenants = [f"tenant-{number}" for number in range(50)]

        answers = await asyncio.gather(
            *(stub.Echo(HELLO, metadata=(*bearer(INTERNAL_KEY), *as_tenant(tenant))) for tenant in tenants)
        )

        assert [answer.value for answer in answers] == tenants

    async def test_a_service_that_names_no_tenant_has_none(
        self, bare_channel: grpc.aio.Channel, servicer: EchoServicer
    ) -> None:
        async def tenant(text: str) -> str:
            return current_tenant()

        servicer.answer = tenant

        error = await failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(INTERNAL_KEY)))

        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_REQUIRED")

    async def test_what_no_table_names_is_not_implemented(self, bare_channel: grpc.aio.Channel) -> None:
        error = await failure(raw_call(bare_channel, f"{SERVICE}/Secret")(HELLO, metadata=bearer(OPERATOR_KEY)))

        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


class TestMethodTable:
    @pytest.mark.parametrize(
        ("methods", "named"),
        [
            ({method: Audience.TENANT for method in METHODS if not method.endswith("/Chat")}, "EchoService/Chat"),
            ({**METHODS, f"{SERVICE}/Typo": Audience.TENANT}, "EchoService/Typo"),
        ],
    )
    async def test_must_name_exactly_the_methods(self, methods: dict[str, Audience], named: str) -> None:
        server = GrpcServer("127.0.0.1:0", service="test", authenticator=an_authenticator(), methods=methods)

        with pytest.raises(ValueError, match=named):
            server.add(EchoServicer(), add_echo_servicer_to_server)

    async def test_a_synchronous_method_is_refused(self) -> None:
        server = GrpcServer("127.0.0.1:0", service="test", authenticator=an_authenticator(), methods=METHODS)
        servicer = EchoServicer()
        servicer.Administer = lambda request, context: request  # type: ignore[method-assign,assignment,return-value]

        with pytest.raises(TypeError, match="EchoService/Administer"):
            server.add(servicer, add_echo_servicer_to_server)

    async def test_registers_what_generated_code_registers(self) -> None:
        health = "grpc.health.v1.Health"
        table = {f"{health}/{name}": Audience.OPERATOR for name in ("Check", "List", "Watch")}
        server = GrpcServer("127.0.0.1:0", service="test", authenticator=an_authenticator(), methods=table)

        with pytest.raises(TypeError, match=f"{health}/"):  # The base class answers without being asynchronous.
            server.add(health_pb2_grpc.HealthServicer(), health_pb2_grpc.add_HealthServicer_to_server)


class TestErrors:
    async def test_violations_and_metadata_arrive(self, stub: EchoStub, servicer: EchoServicer) -> None:
        violations = (
            Violation("prices[0].unit", "REQUIRED", "must not be empty"),
            Violation("zone", "INVALID_ZONE", "no such zone"),
        )

        async def answer(text: str) -> str:
            raise InvalidInput(violations, rateCardId="rc_1")

        servicer.answer = answer

        error = await typed_failure(stub.Echo(HELLO))

        assert isinstance(error, InvalidInput)
        assert (error.violations, error.reason, error.metadata) == (violations, "INVALID_INPUT", {"rateCardId": "rc_1"})

    async def test_so_many_violations_are_cut_to_what_a_client_can_receive(
        self, bare_channel: grpc.aio.Channel, servicer: EchoServicer
    ) -> None:
        async def answer(text: str) -> str:
            raise InvalidInput([Violation(f"events[{n}].id", "TOO_LONG", "\U0001f4a3" * 300) for n in range(1_000)])

        servicer.answer = answer

        error = await typed_failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text)))

        assert isinstance(error, InvalidInput)
        assert [violation.field for violation in error.violations][:3] == [f"events[{n}].id" for n in range(3)]

    async def test_retry_delay_arrives(self, bare_channel: grpc.aio.Channel, servicer: EchoServicer) -> None:
        async def answer(text: str) -> str:
            raise Unavailable("the queue is full", retry_after_s=Decimal("2.5"), reason="QUEUE_FULL")

        servicer.answer = answer

        error = await typed_failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text)))

        assert isinstance(error, Unavailable)
        assert (error.retry_after_s, error.reason) == (Decimal("2.5"), "QUEUE_FULL")

    async def test_a_fault_is_logged_and_not_shown(
        self, stub: EchoStub, servicer: EchoServicer, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def answer(text: str) -> str:
            raise RuntimeError("password is swordfish")

        servicer.answer = answer

        error = await failure(stub.Echo(HELLO))

        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "swordfish" not in f"{error.details()}{error.trailing_metadata()}{error.debug_error_string()}"
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage() == f"{SERVICE}/Echo failed"
        assert record.exc_text is not None
        assert "swordfish" in record.exc_text

    async def test_a_dependency_that_is_away_is_unavailable(
        self, bare_channel: grpc.aio.Channel, servicer: EchoServicer
    ) -> None:
        async def answer(text: str) -> str:
            raise ConnectionRefusedError("10.0.0.7:5432")

        servicer.answer = answer

        error = await typed_failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text)))

        assert isinstance(error, Unavailable)
        assert error.retry_after_s == Decimal(1)
        assert "10.0.0.7" not in error.message

    @pytest.mark.parametrize(
        ("of_peer", "of_us"),
        [
            (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
            (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED),
            (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL),
            (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL),
        ],
    )
    async def test_what_a_peer_answered_us_is_passed_on_only_if_true_of_us(
        self,
        of_peer: grpc.StatusCode,
        of_us: grpc.StatusCode,
        bare_channel: grpc.aio.Channel,
        servicer: EchoServicer,
    ) -> None:
        async def answer(text: str) -> str:
            raise grpc.aio.AioRpcError(of_peer, grpc.aio.Metadata(), grpc.aio.Metadata(), details="peer")

        servicer.answer = answer

        error = await failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text)))

        assert error.code() is of_us

    async def test_a_timeout_inside_a_handler_is_a_fault_and_not_the_deadline(
        self, stub: EchoStub, servicer: EchoServicer
    ) -> None:
        async def answer(text: str) -> str:
            raise TimeoutError

        servicer.answer = answer

        assert (await failure(stub.Echo(HELLO))).code() is grpc.StatusCode.INTERNAL

    async def test_handlers_of_subclasses_keep_their_reason(self, stub: EchoStub, servicer: EchoServicer) -> None:
        class TenantExists(AlreadyExists):
            reason = "TENANT_EXISTS"

        async def answer(text: str) -> str:
            raise TenantExists("tenant acme exists", tenantId="acme")

        servicer.answer = answer

        error = await typed_failure(stub.Echo(HELLO))

        assert (type(error), error.reason, error.metadata) == (AlreadyExists, "TENANT_EXISTS", {"tenantId": "acme"})


class TestDeadlines:
    async def test_the_handler_knows_what_is_left(self, bare_channel: grpc.aio.Channel, servicer: EchoServicer) -> None:
        async def left(text: str) -> str:
            return str(remaining_s())

        servicer.answer = left
        stub = EchoStub(bare_channel)

        with_deadline = await stub.Echo(HELLO, metadata=bearer(ACME_KEY.text), timeout=3)
        without = await stub.Echo(HELLO, metadata=bearer(ACME_KEY.text))

        assert 2.5 < float(with_deadline.value) < 3.5  # grpc rounds timeouts on the wire.
        assert 9.5 < float(without.value) <= 10

    async def test_a_handler_is_stopped_at_the_deadline(
        self, bare_channel: grpc.aio.Channel, servicer: EchoServicer
    ) -> None:
        stopped = asyncio.Event()

        async def hang(text: str) -> str:
            try:
                await asyncio.sleep(30)
            finally:
                stopped.set()
            return text

        servicer.answer = hang

        error = await failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text), timeout=0.1))

        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(stopped.wait(), 1)

    async def test_a_call_with_almost_no_time_is_not_begun(
        self, bare_channel: grpc.aio.Channel, servicer: EchoServicer
    ) -> None:
        await EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text))  # Connected from here on.

        error = await failure(EchoStub(bare_channel).Echo(HELLO, metadata=bearer(ACME_KEY.text), timeout=0.003))

        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert servicer.served == 1


class TestAdmission:
    async def test_nobody_is_judged_before_the_service_is_ready(self) -> None:
        """A client that does not watch health must not be told that its good key is wrong."""
        server = an_echo_server(EchoServicer())
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            early = await failure(EchoStub(opened).Echo(HELLO, metadata=bearer("not yet known"), timeout=5))
            await server.set_ready(True)
            answer = await EchoStub(opened).Echo(HELLO, metadata=bearer(ACME_KEY.text), timeout=5)
        await server.stop()

        assert (early.code(), error_info(early).reason) == (grpc.StatusCode.UNAVAILABLE, "STARTING")
        assert answer.value == "hello"

    async def test_clients_that_watch_health_take_no_calls_away(self) -> None:
        server = an_echo_server(EchoServicer(), max_concurrent_rpcs=2)
        port = await server.start()
        await server.set_ready(True)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            stub = health_pb2_grpc.HealthStub(opened)
            watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(5)]  # type: ignore[attr-defined]
            for watch in watches:
                await watch.read()

            answer = await EchoStub(opened).Echo(HELLO, metadata=bearer(ACME_KEY.text), timeout=5)
            for watch in watches:
                watch.cancel()
        await server.stop()

        assert answer.value == "hello"

    async def test_more_calls_than_fit_are_told_to_come_back(self) -> None:
        servicer, arrived, release = EchoServicer(), asyncio.Semaphore(0), asyncio.Event()

        async def wait(text: str) -> str:
            arrived.release()
            await release.wait()
            return text

        servicer.answer = wait
        server = an_echo_server(servicer, max_concurrent_rpcs=2)
        port = await server.start()
        await server.set_ready(True)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            stub, key = EchoStub(opened), bearer(ACME_KEY.text)
            taken = [asyncio.ensure_future(stub.Echo(HELLO, metadata=key, timeout=20)) for _ in range(2)]
            for _ in taken:
                await arrived.acquire()

            refused = await failure(stub.Echo(HELLO, metadata=key, timeout=5))
            release.set()
            answers = await asyncio.gather(*taken, stub.Echo(HELLO, metadata=key, timeout=5))
        await server.stop()

        assert (refused.code(), error_info(refused).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert [answer.value for answer in answers] == ["hello"] * 3


class TestRun:
    async def test_lets_calls_in_when_everything_is_loaded_until_it_is_to_stop(self) -> None:
        loaded, stopping, port = asyncio.Event(), asyncio.Event(), free_port()
        server = an_echo_server(EchoServicer(), f"127.0.0.1:{port}")
        running = asyncio.create_task(server.run(is_set(loaded), stopping))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            health = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)  # type: ignore[attr-defined]
            before = await health.read()
            loaded.set()
            after = await health.read()
            answer = await EchoStub(opened).Echo(HELLO, metadata=bearer(ACME_KEY.text), timeout=5)
            stopping.set()
            end = await health.read()
            await running

        states = [health_pb2.HealthCheckResponse.ServingStatus.Name(state.status) for state in (before, after, end)]
        assert states == ["NOT_SERVING", "SERVING", "NOT_SERVING"]
        assert answer.value == "hello"

    async def test_stops_also_if_nothing_was_ever_loaded(self) -> None:
        stopping = asyncio.Event()
        stopping.set()

        await asyncio.wait_for(an_echo_server(EchoServicer()).run(is_set(asyncio.Event()), stopping), 10)


class TestHealthAndReflection:
    async def test_health_follows_readiness_without_credentials(self) -> None:
        server = an_echo_server(EchoServicer())
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            health = health_pb2_grpc.HealthStub(opened)

            async def status(name: str) -> str:
                request = health_pb2.HealthCheckRequest(service=name)
                answer = await health.Check(request)  # type: ignore[attr-defined]
                return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

            before = [await status(name) for name in ("", SERVICE, "liveness")]
            await server.set_ready(True)
            after = [await status(name) for name in ("", SERVICE, "liveness")]
            await server.set_ready(False)
            again = [await status(name) for name in ("", SERVICE, "liveness")]
        await server.stop()

        assert before == again == ["NOT_SERVING", "NOT_SERVING", "SERVING"]
        assert after == ["SERVING", "SERVING", "SERVING"]

    @pytest.mark.parametrize("reflection", [True, False])
    async def test_reflection_is_there_only_when_on(self, reflection: bool) -> None:
        server = an_echo_server(EchoServicer(), reflection=reflection)
        port = await server.start()
        found: set[str] = set()
        code = grpc.StatusCode.OK
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            call = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(iter([request]))
            try:
                async for answer in call:
                    found |= {service.name for service in answer.list_services_response.service}
            except grpc.aio.AioRpcError as error:
                code = error.code()
        await server.stop()

        assert (SERVICE in found) is reflection
        # Refused as UNIMPLEMENTED, which a client that is still sending may see as INTERNAL.
        assert (code is grpc.StatusCode.OK) is reflection

    async def test_an_address_in_use_is_an_error(self, target: str) -> None:
        with pytest.raises(OSError, match=target):
            await an_echo_server(EchoServicer(), target).start()
