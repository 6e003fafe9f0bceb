from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from libs.messaging import Delivery, tracing

TRACE_1 = "1" * 32
TRACE_2 = "2" * 32


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    return exporter


def _delivery(traceparent: str | None, msg_id: str = "acme:1") -> Delivery:
    headers = {} if traceparent is None else {"traceparent": traceparent}
    return Delivery("rating.charge", b"", headers, msg_id, "RATING", 1, 1, datetime(2026, 3, 1, tzinfo=UTC))


def _parent(trace_id: str, span: int = 1) -> str:
    return f"00-{trace_id}-{span:016x}-01"


def _span(exporter: InMemorySpanExporter, deliveries: Sequence[Delivery]) -> ReadableSpan:
    with tracing.batch_span("RATING", "billing-charges", deliveries):
        pass
    [span] = exporter.get_finished_spans()
    return span


def _trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


class TestBatchSpan:
    def test_one_producer_is_parent_and_link(self, exporter: InMemorySpanExporter) -> None:
        span = _span(exporter, [_delivery(_parent(TRACE_1)), _delivery(_parent(TRACE_1)), _delivery(None)])

        assert (span.name, span.kind) == ("process RATING", SpanKind.CONSUMER)
        assert _trace_id(span) == TRACE_1
        assert span.parent is not None
        assert span.parent.span_id == 1
        assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE_1]

    def test_several_producers_are_links_of_a_new_trace(self, exporter: InMemorySpanExporter) -> None:
        span = _span(exporter, [_delivery(_parent(TRACE_1)), _delivery(_parent(TRACE_2))])

        assert span.parent is None
        assert _trace_id(span) not in (TRACE_1, TRACE_2)
        assert {f"{link.context.trace_id:032x}" for link in span.links} == {TRACE_1, TRACE_2}

    def test_links_are_limited(self, exporter: InMemorySpanExporter) -> None:
        assert len(_span(exporter, [_delivery(_parent(TRACE_1, span)) for span in range(1, 200)]).links) == 128

    @pytest.mark.parametrize("traceparent", [None, "nonsense"])
    def test_without_a_readable_context_it_begins_a_trace(
        self, exporter: InMemorySpanExporter, traceparent: str | None
    ) -> None:
        span = _span(exporter, [_delivery(traceparent)])

        assert span.parent is None
        assert not span.links

    def test_attributes_follow_the_conventions(self, exporter: InMemorySpanExporter) -> None:
        assert dict(_span(exporter, [_delivery(None)]).attributes or {}) == {
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "RATING",
            "messaging.destination.subscription.name": "billing-charges",
            "messaging.batch.message_count": 1,
            "messaging.message.id": "acme:1",
        }
