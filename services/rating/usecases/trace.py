"""Which traces a rating belongs to, and which one each charge carries on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context

from libs.telemetry import context_from, inject_headers, tracer

TRACES_MAX = 128

_tracer = tracer("steelyard.rating")


@contextmanager
def rating_span(trace_parents: Iterable[str], period_count: int) -> Iterator[Mapping[str, str]]:
    """Open the span in which billing periods are rated, linked to the traces of the usage behind it (at most 128).

    The value maps each trace parent of usage to the one that its charges carry on: a span "rate charges" in the usage's
    own trace, so that an event can be followed to its payment also when many are rated together.
    """
    contexts = {parent: _span_context(parent) for parent in sorted(set(trace_parents))[:TRACES_MAX]}
    valid = {parent: context for parent, context in contexts.items() if context.is_valid}
    attributes = {"steelyard.billing_period_count": period_count}
    links = [trace.Link(context) for context in valid.values()]
    with _tracer.start_as_current_span("rate billing_periods", Context(), links=links, attributes=attributes) as span:
        rating = trace.Link(span.get_span_context())
        yield {parent: _continued(parent, context, rating) for parent, context in valid.items()}


def _continued(trace_parent: str, context: trace.SpanContext, rating: trace.Link) -> str:
    if not context.trace_flags.sampled:
        return trace_parent  # Nobody will look at a span that is not kept.
    parent = trace.set_span_in_context(trace.NonRecordingSpan(context), Context())
    with _tracer.start_as_current_span("rate charges", parent, links=[rating]):
        return inject_headers().get("traceparent", trace_parent)


def _span_context(trace_parent: str) -> trace.SpanContext:
    return trace.get_current_span(context_from({"traceparent": trace_parent})).get_span_context()
