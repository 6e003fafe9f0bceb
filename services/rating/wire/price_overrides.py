"""Price overrides on the wire."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.rating.domain.price_override import PriceOverride
from services.rating.wire.card_reading import Reading
from services.rating.wire.rate_cards import price_from_pb, price_to_pb
from services.rating.wire.times import instant_from_pb, instant_to_pb
from steelyard.rating.v1 import price_override_service_pb2 as pb


def override_from_pb(message: pb.PriceOverride, reading: Reading) -> PriceOverride:
    """Return the override of a request."""
    return PriceOverride(
        override_id=message.override_id,
        rate_card_id=message.rate_card_id,
        customer_id=message.customer_id,
        subscription_id=message.subscription_id,
        prices=tuple(price_from_pb(price, f"prices[{index}]", reading) for index, price in enumerate(message.prices)),
        effective_at=instant_of(message.effective_time, "price_override.effective_time", reading)
        if message.HasField("effective_time")
        else None,
        end_at=instant_of(message.end_time, "price_override.end_time", reading)
        if message.HasField("end_time")
        else None,
        reason=message.reason,
        currency=message.currency,
    )


def override_to_pb(override: PriceOverride) -> pb.PriceOverride:
    """Return an override for the wire."""
    message = pb.PriceOverride(
        override_id=override.override_id,
        rate_card_id=override.rate_card_id,
        prices=[price_to_pb(price) for price in override.prices],
        reason=override.reason,
        currency=override.currency,
    )
    if override.subscription_id:
        message.subscription_id = override.subscription_id
    else:
        message.customer_id = override.customer_id
    for field, at in (
        (message.effective_time, override.effective_at),
        (message.end_time, override.end_at),
        (message.create_time, override.created_at),
    ):
        if at is not None:
            field.CopyFrom(instant_to_pb(at))
    return message


def instant_of(timestamp: Timestamp, path: str, reading: Reading) -> datetime | None:
    """Return an instant; None if it cannot be one, which `reading` then tells."""
    try:
        return instant_from_pb(timestamp)
    except (ValueError, OverflowError):
        reading.add(path, "INVALID_TIME", "must be an instant in the years 1 to 9999")
        return None
