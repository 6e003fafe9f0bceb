"""Fields that a request must have."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import InvalidInput
from libs.ids import check_resource_id
from services.rating.wire.times import instant_from_pb
from steelyard.rating.v1 import charge_service_pb2


def resource_id(text: str, path: str) -> str:
    """Return an id that a client has given to something.

    :raises InvalidInput: if it cannot be one
    """
    if violation := check_resource_id(text, path):
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
