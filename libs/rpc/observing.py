"""A span and a duration for each call served or made, named by the semantic conventions for RPC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from libs.clock import monotonic_s
from libs.telemetry import Histogram, context_from, meter, semconv, tracer

_SCOPE = "steelyard.rpc"
_LABELS = (semconv.RPC_SYSTEM_NAME, semconv.RPC_METHOD, semconv.RPC_RESPONSE_STATUS_CODE)
_TRACER = tracer(_SCOPE)
_METER = meter(_SCOPE)
_SERVER_DURATION = _METER.histogram(
    semconv.RPC_SERVER_CALL_DURATION, unit="s", description="Duration of calls served.", labels=_LABELS
)
_CLIENT_DURATION = _METER.histogram(
    semconv.RPC_CLIENT_CALL_DURATION, unit="s", description="Duration of calls to peers.", labels=_LABELS
)

# A server is not at fault for what its clients do; to a client each failure is one.
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_CLIENT_FAULTS = frozenset(grpc.StatusCode) - {grpc.StatusCode.OK}


@dataclass(slots=True)
class CallOutcome:
    """Filled in by whoever knows how the call ended."""

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN


@contextmanager
def call_served(method: str, headers: Mapping[str, str]) -> Iterator[CallOutcome]:
    """Observe a call being served, in the trace of its caller."""
    with _observed(method, SpanKind.SERVER, context_from(headers), _SERVER_DURATION, _SERVER_FAULTS) as outcome:
        yield outcome


@contextmanager
def call_made(method: str) -> Iterator[CallOutcome]:
    """Observe a call to a peer, all its attempts together."""
    with _observed(method, SpanKind.CLIENT, None, _CLIENT_DURATION, _CLIENT_FAULTS) as outcome:
        yield outcome


@contextmanager
def _observed(
    method: str, kind: SpanKind, context: Context | None, duration: Histogram, faults: frozenset[grpc.StatusCode]
) -> Iterator[CallOutcome]:
    outcome = CallOutcome()
    attributes = {semconv.RPC_SYSTEM_NAME: "grpc", semconv.RPC_METHOD: method}
    with _TRACER.start_as_current_span(
        method, context, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        started_s = monotonic_s()
        try:
            yield outcome
        finally:
            code = outcome.code.name
            span.set_attribute(semconv.RPC_RESPONSE_STATUS_CODE, code)
            if outcome.code in faults:
                span.set_attribute(semconv.ERROR_TYPE, code)
                span.set_status(Status(StatusCode.ERROR))
            duration.record(monotonic_s() - started_s, "grpc", method, code)
