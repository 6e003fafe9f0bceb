"""What a batch has to be, however it comes in."""

from __future__ import annotations

from collections.abc import Sequence

from libs.errors import InvalidInput, Violation
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from steelyard.ingest.v1 import ingest_service_pb2

_LEVELS = (ingest_service_pb2.ACK_LEVEL_QUEUED, ingest_service_pb2.ACK_LEVEL_RECORDED)


def check_batch(events: Sequence[object], size_bytes: int) -> None:
    """:raises InvalidInput: BATCH_EMPTY, BATCH_TOO_LARGE"""
    if not events:
        raise invalid("events", "BATCH_EMPTY", "must hold at least one event")
    if len(events) > MAX_BATCH_EVENTS:
        description = f"must hold at most {MAX_BATCH_EVENTS} events, holds {len(events)}"
        raise invalid("events", "BATCH_TOO_LARGE", description)
    if size_bytes > MAX_BATCH_BYTES:
        raise invalid("events", "BATCH_TOO_LARGE", f"must have at most {MAX_BATCH_BYTES} bytes, has {size_bytes}")


def check_level(level: ingest_service_pb2.AckLevel.ValueType, field: str = "ack_level") -> None:
    """:raises InvalidInput: ACK_LEVEL_MISSING"""
    if level not in _LEVELS:
        raise invalid(field, "ACK_LEVEL_MISSING", "must be QUEUED or RECORDED")


def invalid(field: str, reason: str, description: str) -> InvalidInput:
    """The error whose own reason is that of its one violation."""
    return InvalidInput([Violation(field, reason, description)], reason=reason)
