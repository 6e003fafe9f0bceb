"""The span of one attempt: in the trace of the invoice, which is that of a usage event behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import propagate, trace

from services.payments.domain.payment import Attempt, Payment

_TRACER = trace.get_tracer("services.payments")


@contextmanager
def attempt_span(payment: Payment, attempt: Attempt) -> Iterator[trace.Span]:
    """Open the span `payments.attempt` around a call of the gateway."""
    parent = propagate.extract({"traceparent": payment.trace_parent}) if payment.trace_parent else None
    with _TRACER.start_as_current_span("payments.attempt", context=parent, kind=trace.SpanKind.CLIENT) as span:
        span.set_attribute("steelyard.payment.id", payment.payment_id)
        span.set_attribute("steelyard.invoice.id", payment.invoice_id)
        span.set_attribute("steelyard.attempt.number", attempt.number)
        yield span
