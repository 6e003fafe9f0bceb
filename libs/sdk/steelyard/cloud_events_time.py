"""Instants to the nanosecond, which `datetime` cannot hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from steelyard.events import UsageEvent
from steelyard.ingest.v1 import usage_event_pb2

_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # The years 1 to 9999, all that a Timestamp may hold.
_NANO_DIGITS = 9
_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class NanosecondUsageEvent(UsageEvent):
    """A usage event whose instant lies `nanosecond` (1 to 999) after the microsecond in `event_time`."""

    nanosecond: int = 0

    def to_pb(self, default_source: str) -> usage_event_pb2.UsageEvent:
        """Encode it; see UsageEvent."""
        message = UsageEvent.to_pb(self, default_source)
        message.event_time.nanos += self.nanosecond
        return message


def parse_rfc3339(text: str) -> Timestamp:
    """Parse an instant of RFC 3339 with any offset and up to nine digits of a second's fraction, exactly.

    :raises ValueError: if it is none, or outside the years 1 to 9999
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("must be an instant of RFC 3339, such as 2026-01-31T23:59:59Z")
    day, time, fraction, offset = match.groups(default="")
    if len(fraction) > _NANO_DIGITS:
        raise ValueError(f"must have at most {_NANO_DIGITS} digits after the second")
    try:
        since = datetime.fromisoformat(f"{day}T{time}{offset.upper()}") - _EPOCH
    except ValueError as error:
        raise ValueError(f"must be an instant that exists: {error}") from error
    seconds = since.days * 86_400 + since.seconds
    if not _FIRST_S <= seconds <= _LAST_S:
        raise ValueError("must lie in the years 1 to 9999")
    return Timestamp(seconds=seconds, nanos=int(fraction.ljust(_NANO_DIGITS, "0")))


def is_instant(at: Timestamp) -> bool:
    """Whether it is one that a Timestamp may hold."""
    return _FIRST_S <= at.seconds <= _LAST_S and 0 <= at.nanos < _NANOS


def event_from_pb(message: usage_event_pb2.UsageEvent) -> UsageEvent:
    """Return the event that encodes to this message."""
    microseconds, nanosecond = divmod(message.event_time.nanos, 1_000)
    at = _EPOCH + timedelta(seconds=message.event_time.seconds, microseconds=microseconds)
    event = UsageEvent(
        event_id=message.event_id,
        source=message.source,
        event_type=message.event_type,
        customer_id=message.customer_id,
        event_time=at,
        properties=dict(message.properties),
        sequence=message.sequence,
        sequence_epoch=message.sequence_epoch,
    )
    return with_nanosecond(event, nanosecond) if nanosecond else event


def with_nanosecond(event: UsageEvent, nanosecond: int) -> NanosecondUsageEvent:
    """Return the event as much later."""
    return NanosecondUsageEvent(
        event_id=event.event_id,
        source=event.source,
        event_type=event.event_type,
        customer_id=event.customer_id,
        event_time=event.event_time,
        properties=event.properties,
        sequence=event.sequence,
        sequence_epoch=event.sequence_epoch,
        nanosecond=nanosecond,
    )
