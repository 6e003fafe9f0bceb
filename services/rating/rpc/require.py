"""Fields that a request must have."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import InvalidInput
from libs.ids import check_resource_id, check_text
from libs.periods import Period, find_zone
from services.rating.domain.proration import PartOfPeriod
from services.rating.wire.times import instant_from_pb, period_from_pb
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import charge_service_pb2

CUSTOMER_ID_LENGTH_MAX = 128


def resource_id(text: str, path: str) -> str:
    """Return an id that a client has given to something.

    :raises InvalidInput: if it cannot be one
    """
    if violation := check_resource_id(text, path):
        raise InvalidInput([violation])
    return text


def customer_id(text: str, path: str) -> str:
    """Return the id of a customer, which billing or a producer has given.

    :raises InvalidInput: if it cannot be one
    """
    if violation := check_text(text, path, CUSTOMER_ID_LENGTH_MAX):
        raise InvalidInput([violation])
    return text


def period_key(key: charge_service_pb2.BillingPeriodKey, path: str = "key") -> tuple[str, datetime]:
    """Return the subscription and an instant in its billing period.

    :raises InvalidInput: if one of them is missing or impossible
    """
    subscription_id = resource_id(key.subscription_id, f"{path}.subscription_id")
    if not key.HasField("period_start"):
        raise InvalidInput.of(f"{path}.period_start", "REQUIRED", "must be an instant in the billing period")
    return subscription_id, instant(key.period_start, f"{path}.period_start")


def instant(timestamp: Timestamp, path: str) -> datetime:
    """Return an instant that was given.

    :raises InvalidInput: if it is an impossible one
    """
    try:
        return instant_from_pb(timestamp)
    except (ValueError, OverflowError) as error:
        raise InvalidInput.of(path, "INVALID_TIME", "must be an instant in the years 1 to 9999") from error


def part_of_period(message: charge_service_pb2.PartOfBillingPeriod, path: str = "part") -> PartOfPeriod:
    """Return a part of a billing period.

    :raises InvalidInput: if there is no such period or zone, or it is not within the whole one
    """
    part, whole = _period(message.period, f"{path}.period"), _period(message.whole_period, f"{path}.whole_period")
    if part.intersection(whole) != part:
        raise InvalidInput.of(f"{path}.period", "OUT_OF_RANGE", "must be within whole_period")
    time_zone = message.time_zone or "UTC"
    find_zone(time_zone, f"{path}.time_zone")
    return PartOfPeriod(part, whole, time_zone)


def _period(message: period_pb2.Period, path: str) -> Period:
    try:
        return period_from_pb(message)
    except (ValueError, OverflowError) as error:
        raise InvalidInput.of(path, "INVALID_PERIOD", "must end after its start, in the years 1 to 9999") from error
