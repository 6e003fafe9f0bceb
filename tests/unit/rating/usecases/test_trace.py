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


def _traces(span: ReadableSpan) -> set[str]:
    return {f"{link.context.trace_id:032x}" for link in span.links}


def test_each_trace_is_continued_by_a_span_of_its_own(spans: InMemorySpanExporter) -> None:
    with rating_span([FIRST, OTHER, FIRST], 2) as carried:
        pass

    *charges, rating = spans.get_finished_spans()
    assert carried == {
        parent: "00-{}-{}-01".format(*_ids(span)) for parent, span in zip([FIRST, OTHER], charges, strict=True)
    }
    assert [_ids(span)[0] for span in charges] == ["a" * 32, "b" * 32]
    assert [f"{span.parent.span_id:016x}" for span in charges if span.parent] == ["1" * 16, "3" * 16]
    assert _traces(rating) == {"a" * 32, "b" * 32}


def test_what_is_no_trace_parent_is_left_out(spans: InMemorySpanExporter) -> None:
    with rating_span(["nonsense"], 1) as carried:
        pass

    assert carried == {}
    assert spans.get_finished_spans()[0].links == ()


def test_a_trace_that_is_not_kept_passes_through_without_a_span(spans: InMemorySpanExporter) -> None:
    unsampled = FIRST.removesuffix("1") + "0"
    with rating_span([unsampled], 1) as carried:
        pass

    assert carried == {unsampled: unsampled}
    assert [span.name for span in spans.get_finished_spans()] == ["rate billing_periods"]


def test_without_telemetry_the_trace_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_tracer", NoOpTracerProvider().get_tracer("test"))

    with rating_span([FIRST], 1) as carried:
        pass

    assert carried == {FIRST: FIRST}


def test_traces_are_limited(spans: InMemorySpanExporter) -> None:
    with rating_span([f"00-{number:032x}-{'1' * 16}-01" for number in range(1, 500)], 1) as carried:
        pass

    assert len(carried) == len(spans.get_finished_spans()[-1].links) == trace.TRACES_MAX
