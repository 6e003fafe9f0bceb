"""Instants on the wire."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.ingest.domain.door import to_ns
from services.ingest.domain.usage_batch import NANOSECONDS


def time_from_pb(timestamp: Timestamp) -> datetime:
    """The instant, aware and in UTC, cut to microseconds.

    :raises ValueError, OverflowError: if it is outside the years 1 to 9999
    """
    return timestamp.ToDatetime(tzinfo=UTC)


def time_to_pb(at: datetime) -> Timestamp:
    return time_ns_to_pb(to_ns(at))  # A third of the time of FromDatetime.


def time_ns_to_pb(time_ns: int) -> Timestamp:
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)
