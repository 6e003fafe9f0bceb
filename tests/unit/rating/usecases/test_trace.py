"""Which trace charges carry on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

from services.rating.usecases import trace
from services.rating.usecases.trace import rating_span

FIRST = "00-" + "a" * 32 + "-" + "1" * 16 + "-01"
SAME_TRACE = "00-" + "a" * 32 + "-" + "2" * 16 + "-01"
OTHER = "00-" + "b" * 32 + "-" + "3" * 16 + "-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def _ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


@pytest.mark.parametrize("trace_parents", [[FIRST], [FIRST, FIRST], [FIRST, SAME_TRACE]])
def test_a_single_trace_is_continued(spans: InMemorySpanExporter, trace_parents: list[str]) -> None:
    with rating_span(trace_parents, 1) as carried:
        pass

    [span] = spans.get_finished_spans()
    assert carried == "00-{}-{}-01".format(*_ids(span))
    assert _ids(span)[0] == "a" * 32
    assert len(span.links) == len(set(trace_parents))


def test_several_traces_are_linked_and_none_is_continued(spans: InMemorySpanExporter) -> None:
    with rating_span([FIRST, OTHER], 2) as carried:
        pass

    [span] = spans.get_finished_spans()
    assert carried is None
    assert _ids(span)[0] not in {"a" * 32, "b" * 32}
    assert {f"{link.context.trace_id:032x}" for link in span.links} == {"a" * 32, "b" * 32}


def test_what_is_no_trace_parent_is_left_out(spans: InMemorySpanExporter) -> None:
    with rating_span(["nonsense"], 1) as carried:
        pass

    assert carried is None
    assert spans.get_finished_spans()[0].links == ()


def test_without_telemetry_the_trace_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_tracer", NoOpTracerProvider().get_tracer("test"))

    with rating_span([FIRST], 1) as carried:
        pass

    assert carried == FIRST


def test_links_are_limited(spans: InMemorySpanExporter) -> None:
    with rating_span([f"00-{number:032x}-{'1' * 16}-01" for number in range(1, 500)], 1):
        pass

    assert len(spans.get_finished_spans()[0].links) == trace.LINKS_MAX
