"""Instants and periods on the wire."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.periods import Period
from steelyard.common.v1 import period_pb2


def instant_from_pb(timestamp: Timestamp) -> datetime:
    """Return the instant, aware and in UTC.

    :raises ValueError, OverflowError: if it is outside the years 1 to 9999
    """
    return timestamp.ToDatetime(tzinfo=UTC)


def instant_to_pb(at: datetime) -> Timestamp:
    """Return an instant for the wire."""
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp


def period_from_pb(period: period_pb2.Period) -> Period:
    """Return the period.

    :raises ValueError, OverflowError: if it has no instant in it, or an edge is impossible
    """
    return Period(instant_from_pb(period.start), instant_from_pb(period.end))


def period_to_pb(period: Period) -> period_pb2.Period:
    """Return a period for the wire."""
    return period_pb2.Period(start=instant_to_pb(period.start), end=instant_to_pb(period.end))
