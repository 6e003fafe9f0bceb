"""One event, as it goes into the buffer."""

from __future__ import annotations

from opentelemetry import trace

from steelyard.errors import InvalidRequest
from steelyard.events import UsageEvent
from steelyard.spool.settings import MAX_CALL_BYTES

_MAX_EVENT_BYTES = MAX_CALL_BYTES - 1_000


def encode(event: UsageEvent, source: str) -> bytes:
    """Return it serialised.

    :raises TypeError, ValueError: if it cannot be
    :raises InvalidRequest: if it is larger than a call may be
    """
    encoded = event.to_pb(source).SerializeToString()
    if len(encoded) > _MAX_EVENT_BYTES:
        raise InvalidRequest(f"{len(encoded)} bytes are too many for one event", reason="EVENT_TOO_LARGE")
    return encoded


def trace_parent() -> str:
    """The W3C context of the span that is current here, if it is sampled: its batch continues the trace."""
    span = trace.get_current_span().get_span_context()
    if not (span.is_valid and span.trace_flags.sampled):
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
