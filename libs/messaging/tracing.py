"""The span in which a batch of messages is handled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from libs.messaging.delivery import Delivery
from libs.telemetry import semconv

_MAX_LINKS = 128

_tracer = trace.get_tracer("steelyard.messaging")


@contextmanager
def batch_span(stream: str, durable: str, deliveries: Sequence[Delivery]) -> Iterator[None]:
    """Open the CONSUMER span of a batch, linked to every distinct producer context (at most 128).

    If there is exactly one, it is the parent too, so that a single event keeps one trace id through the system;
    otherwise the span begins a new trace.
    """
    contexts = _producer_contexts(deliveries)
    parent = Context() if len(contexts) != 1 else trace.set_span_in_context(trace.NonRecordingSpan(contexts[0]))
    links = [trace.Link(context) for context in contexts]
    attributes: dict[str, AttributeValue] = {
        semconv.MESSAGING_SYSTEM: "nats",
        semconv.MESSAGING_OPERATION_NAME: "process",
        semconv.MESSAGING_OPERATION_TYPE: "process",
        semconv.MESSAGING_DESTINATION_NAME: stream,
        semconv.MESSAGING_DESTINATION_SUBSCRIPTION_NAME: durable,
        semconv.MESSAGING_BATCH_MESSAGE_COUNT: len(deliveries),
    }
    if len(deliveries) == 1 and deliveries[0].msg_id:
        attributes[semconv.MESSAGING_MESSAGE_ID] = deliveries[0].msg_id
    with _tracer.start_as_current_span(
        f"process {stream}", context=parent, kind=trace.SpanKind.CONSUMER, links=links, attributes=attributes
    ):
        yield


def _producer_contexts(deliveries: Sequence[Delivery]) -> list[trace.SpanContext]:
    contexts: list[trace.SpanContext] = []
    headers = {delivery.headers.get("traceparent"): delivery.headers for delivery in deliveries}
    for traceparent, carrier in headers.items():
        if traceparent is None:
            continue
        context = trace.get_current_span(propagate.extract(carrier, context=Context())).get_span_context()
        if context.is_valid:
            contexts.append(context)
        if len(contexts) == _MAX_LINKS:
            break
    return contexts
