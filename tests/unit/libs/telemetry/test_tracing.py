"""Trace context in headers."""

from __future__ import annotations

from opentelemetry import trace

from libs.telemetry import context_from, inject_headers

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_context_goes_out_as_it_came_in() -> None:
    span = trace.get_current_span(context_from({"traceparent": TRACEPARENT, "other": "x"}))

    with trace.use_span(span):
        headers = inject_headers()

    assert headers == {"traceparent": TRACEPARENT}


def test_nothing_goes_out_outside_a_trace() -> None:
    assert inject_headers() == {}


def test_garbage_starts_a_new_trace() -> None:
    span = trace.get_current_span(context_from({"traceparent": "00-xyz"}))

    assert not span.get_span_context().is_valid
