"""Values that stand in several messages."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import InvalidInput
from libs.money import Money
from libs.periods import Period
from steelyard.common.v1 import money_pb2, period_pb2


def time_to_pb(at: datetime | None) -> Timestamp | None:
    """An absent instant is an absent field."""
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def time_from_pb(stamp: Timestamp, field: str) -> datetime:
    """:raises InvalidInput: if the instant is outside of what a calendar holds"""
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput.of(field, "OUT_OF_RANGE", "is not an instant of the years 1 to 9999") from error


def money_to_pb(money: Money) -> money_pb2.Money:
    return money_pb2.Money(minor_units=money.minor_units, currency=money.currency)


def period_to_pb(period: Period) -> period_pb2.Period:
    return period_pb2.Period(start=time_to_pb(period.start), end=time_to_pb(period.end))


def period_from_pb(message: period_pb2.Period, field: str) -> Period:
    """:raises InvalidInput: if an edge is missing, or the end is not after the start"""
    start, end = time_from_pb(message.start, f"{field}.start"), time_from_pb(message.end, f"{field}.end")
    if not message.HasField("start") or not message.HasField("end") or start >= end:
        raise InvalidInput.of(field, "INVALID_PERIOD", "needs a start and a later end")
    return Period(start, end)
