"""Usage events as a producer sees them."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp

from steelyard.ingest.v1 import usage_event_pb2

PropertyValue = str | int | Decimal

_lock = threading.Lock()
_last_ms = 0


def _new_lock() -> None:
    """Another thread may have held the lock when this process was forked; nobody here would ever release it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)


def new_event_id() -> str:
    """Return a UUIDv7 (RFC 9562): time-ordered, so that the server's index stays local."""
    global _last_ms
    with _lock:
        now_ms = max(time.time_ns() // 1_000_000, _last_ms)
        _last_ms = now_ms
    noise = int.from_bytes(os.urandom(10), "big")
    value = (now_ms << 80) | (0x7 << 76) | ((noise >> 68) << 64) | (0b10 << 62) | (noise & ((1 << 62) - 1))
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One use by one customer.

    The id is chosen here and kept over all retries; the same id never counts twice. Properties are text, `int` or
    `Decimal`; a `float` is refused because it cannot say 0.1.
    """

    event_type: str
    customer_id: str
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)
    event_id: str = field(default_factory=new_event_id)
    event_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = ""
    sequence: int = 0
    """Its number: 1, 2, 3 ... per source and epoch; 0: none. `Options(number_events=True)` gives them."""
    sequence_epoch: str = ""
    """One life of whoever numbers; empty: the source counts on over its restarts."""

    def to_pb(self, default_source: str) -> usage_event_pb2.UsageEvent:
        """Encode it.

        :raises TypeError: if a property is neither str, int nor Decimal
        :raises ValueError: if event_time has no zone
        """
        if self.event_time.tzinfo is None:
            raise ValueError(f"event_time of {self.event_id} has no time zone")
        at = Timestamp()
        at.FromDatetime(self.event_time)
        return usage_event_pb2.UsageEvent(
            event_id=self.event_id,
            source=self.source or default_source,
            event_type=self.event_type,
            customer_id=self.customer_id,
            event_time=at,
            properties={key: _text(key, value) for key, value in self.properties.items()},
            sequence=self.sequence,
            sequence_epoch=self.sequence_epoch,
        )


def make_event(
    event_type: str,
    customer_id: str,
    properties: Mapping[str, PropertyValue] | None,
    event_id: str | None,
    event_time: datetime | None,
) -> UsageEvent:
    """An event with id and time of its own where none are given."""
    return UsageEvent(
        event_type,
        customer_id,
        properties or {},
        event_id or new_event_id(),
        event_time or datetime.now(UTC),
    )


def _text(key: str, value: PropertyValue) -> str:
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    raise TypeError(f"property {key!r} must be str, int or Decimal, got {value!r}")
