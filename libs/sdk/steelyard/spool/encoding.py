"""One event, as it goes into the buffer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from opentelemetry import trace

from steelyard.errors import InvalidRequest
from steelyard.events import PropertyValue, UsageEvent
from steelyard.spool.settings import MAX_CALL_BYTES

_MAX_EVENT_BYTES = MAX_CALL_BYTES - 1_000


def make_event(
    event_type: str,
    customer_id: str,
    properties: Mapping[str, PropertyValue] | None,
    event_id: str | None,
    event_time: datetime | None,
) -> UsageEvent:
    """An event with id and time of its own where none are given."""
    given: dict[str, object] = {}
    if event_id is not None:
        given["event_id"] = event_id
    if event_time is not None:
        given["event_time"] = event_time
    return UsageEvent(event_type, customer_id, properties or {}, **given)  # type: ignore[arg-type]


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
