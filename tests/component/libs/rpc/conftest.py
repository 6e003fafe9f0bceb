"""An echo server, a channel to it with acme's key, and the spans that both make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.rpc import channel
from tests.component.libs.rpc.echo import ACME_KEY, EchoServicer, EchoStub, an_echo_server


@pytest.fixture
def servicer() -> EchoServicer:
    return EchoServicer()


@pytest.fixture
async def target(servicer: EchoServicer) -> AsyncIterator[str]:
    """The address of a server that is ready."""
    server = an_echo_server(servicer, is_unavailable=lambda error: isinstance(error, ConnectionError))
    port = await server.start()
    await server.set_ready(True)
    yield f"127.0.0.1:{port}"
    await server.stop()


@pytest.fixture
async def bare_channel(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of grpc's own, which sends nothing by itself."""
    async with grpc.aio.insecure_channel(target) as opened:
        yield opened


@pytest.fixture
async def stub(target: str) -> AsyncIterator[EchoStub]:
    async with channel(target, key=ACME_KEY.text) as opened:
        yield EchoStub(opened)


@pytest.fixture(scope="session")
def span_exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):  # OpenTelemetry lets a process choose its provider once.
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(span_exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    span_exporter.clear()
    yield span_exporter
    span_exporter.clear()
