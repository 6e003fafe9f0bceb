"""Spans and metrics of real calls."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from libs.errors import NotFound
from libs.rpc import internal_channel
from libs.telemetry import tracer
from libs.telemetry.metrics import process_registry
from tests.component.libs.rpc.echo import INTERNAL_KEY, SERVICE, EchoServicer, EchoStub

METHOD = f"{SERVICE}/Echo"
HELLO = StringValue(value="hello")


def by_kind(spans: InMemorySpanExporter) -> dict[SpanKind, ReadableSpan]:
    return {span.kind: span for span in spans.get_finished_spans() if span.name == METHOD}


def count(side: str, code: str) -> float:
    labels = {"rpc_system_name": "grpc", "rpc_method": METHOD, "rpc_response_status_code": code}
    name = f"rpc_{side}_call_duration_seconds_count"
    return process_registry().prometheus.get_sample_value(name, labels) or 0


class TestSpans:
    async def test_one_trace_from_the_caller_to_the_handler(
        self, spans: InMemorySpanExporter, stub: EchoStub, servicer: EchoServicer
    ) -> None:
        async def answer(text: str) -> str:
            with tracer("test").start_as_current_span("in the handler"):
                return text

        servicer.answer = answer
        with tracer("test").start_as_current_span("caller") as caller:
            await stub.Echo(HELLO)

        inner = next(span for span in spans.get_finished_spans() if span.name == "in the handler")
        found = by_kind(spans)
        client, server = found[SpanKind.CLIENT], found[SpanKind.SERVER]
        chain = [caller.get_span_context(), client.context, server.context]
        assert [span.parent.span_id for span in (client, server, inner) if span.parent] == [c.span_id for c in chain]
        assert {span.context.trace_id for span in (client, server, inner)} == {caller.get_span_context().trace_id}

    async def test_names_and_attributes_follow_the_conventions(
        self, spans: InMemorySpanExporter, stub: EchoStub
    ) -> None:
        await stub.Echo(HELLO)

        found = by_kind(spans)
        common = {"rpc.system.name": "grpc", "rpc.method": METHOD, "rpc.response.status_code": "OK"}
        assert dict(found[SpanKind.CLIENT].attributes or {}) == common
        assert dict(found[SpanKind.SERVER].attributes or {}) == {**common, "steelyard.tenant_id": "acme"}
        assert found[SpanKind.SERVER].status.status_code is StatusCode.UNSET

    @pytest.mark.parametrize(
        ("error", "code", "server_at_fault"),
        [(NotFound("no"), "NOT_FOUND", False), (RuntimeError("bug"), "INTERNAL", True)],
    )
    async def test_failures(
        self,
        error: Exception,
        code: str,
        server_at_fault: bool,
        spans: InMemorySpanExporter,
        stub: EchoStub,
        servicer: EchoServicer,
    ) -> None:
        async def answer(text: str) -> str:
            raise error

        servicer.answer = answer

        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Echo(HELLO)

        found = by_kind(spans)
        client, server = found[SpanKind.CLIENT], found[SpanKind.SERVER]
        assert (client.status.status_code, client.attributes["error.type"]) == (StatusCode.ERROR, code)  # type: ignore[index]
        assert (server.attributes or {})["rpc.response.status_code"] == code
        assert (server.status.status_code is StatusCode.ERROR) is server_at_fault
        assert ("error.type" in (server.attributes or {})) is server_at_fault

    async def test_retries_are_one_span_of_the_client(
        self, spans: InMemorySpanExporter, stub: EchoStub, servicer: EchoServicer
    ) -> None:
        async def fail_once(text: str) -> str:
            if servicer.served == 1:
                raise ConnectionResetError
            return text

        servicer.answer = fail_once

        await stub.Echo(HELLO)

        kinds = [span.kind for span in spans.get_finished_spans() if span.name == METHOD]
        assert sorted(kind.name for kind in kinds) == ["CLIENT", "SERVER", "SERVER"]


class TestMetrics:
    async def test_each_call_is_counted_on_both_sides(self, target: str, servicer: EchoServicer) -> None:
        before = [count("server", "OK"), count("client", "OK"), count("server", "NOT_FOUND")]

        async def answer(text: str) -> str:
            if text == "missing":
                raise NotFound("no")
            return text

        servicer.answer = answer
        async with internal_channel(target, INTERNAL_KEY) as opened:
            stub = EchoStub(opened)
            await stub.Echo(HELLO)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Echo(StringValue(value="missing"))

        after = [count("server", "OK"), count("client", "OK"), count("server", "NOT_FOUND")]
        assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1, 1]
