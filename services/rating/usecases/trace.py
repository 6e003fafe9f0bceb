"""Which trace a rating belongs to, and which one its charges carry on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context

from libs.telemetry import context_from, inject_headers, tracer

LINKS_MAX = 128

_tracer = tracer("steelyard.rating")


@contextmanager
def rating_span(trace_parents: Iterable[str], period_count: int) -> Iterator[str | None]:
    """Open the span in which billing periods are rated, linked to the distinct traces of the usage behind it.

    If there is one such trace, the span continues it, and the value is the traceparent that the charges carry on, so
    that an event can be followed to its payment. Otherwise the value is None and each charge keeps its usage's own.
    """
    contexts = [_span_context(trace_parent) for trace_parent in sorted(set(trace_parents))[:LINKS_MAX]]
    valid = [context for context in contexts if context.is_valid]
    single = valid[0] if len({context.trace_id for context in valid}) == 1 else None
    parent = Context() if single is None else trace.set_span_in_context(trace.NonRecordingSpan(single), Context())
    links = [trace.Link(context) for context in valid]
    attributes = {"steelyard.billing_period_count": period_count}
    with _tracer.start_as_current_span("rate billing_periods", context=parent, links=links, attributes=attributes):
        yield inject_headers().get("traceparent") if single is not None else None


def _span_context(trace_parent: str) -> trace.SpanContext:
    return trace.get_current_span(context_from({"traceparent": trace_parent})).get_span_context()
