"""Rating's charges as values of billing: the same message in its stream, in its answers and on our invoices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter

from google.protobuf.timestamp_pb2 import Timestamp

from libs.money import RoundingMode, parse_decimal
from services.billing.domain.charge import Charge, ChargePart, PeriodKey
from steelyard.rating.v1 import charge_pb2, rate_card_pb2

_DIGITS_MAX = 60
_SCALE_MAX = 60
_MODES = {
    rate_card_pb2.ROUNDING_MODE_UNSPECIFIED: RoundingMode.HALF_EVEN,
    rate_card_pb2.ROUNDING_MODE_HALF_EVEN: RoundingMode.HALF_EVEN,
    rate_card_pb2.ROUNDING_MODE_HALF_UP: RoundingMode.HALF_UP,
    rate_card_pb2.ROUNDING_MODE_DOWN: RoundingMode.DOWN,
    rate_card_pb2.ROUNDING_MODE_UP: RoundingMode.UP,
}
_part_values = attrgetter(*ChargePart._fields)


class ChargeUnreadable(Exception):
    """The message is not a charge that can be invoiced."""


def charge_from_pb(message: charge_pb2.Charge, *, lowest_version: int = 1) -> Charge:
    """:raises ChargeUnreadable: if a number, the period or the rounding mode makes no sense"""
    if not message.HasField("period") or message.rounding_mode not in _MODES or message.version < lowest_version:
        raise ChargeUnreadable(f"charge {message.price_id} of {message.subscription_id} is incomplete")
    start = message.period.start
    try:
        return Charge(
            PeriodKey(message.subscription_id, _instant(start.seconds, start.nanos)),
            message.customer_id,
            message.price_id,
            message.display_name,
            message.meter_id,
            message.position,
            message.currency,
            _exact(message.quantity),
            _exact(message.amount),
            _MODES[message.rounding_mode],
            message.rate_card_id,
            message.rate_card_version,
            message.engine_version,
            tuple([ChargePart._make(_part_values(part)) for part in message.parts]),
            message.version,
            message.trace_parent,
        )
    except (ValueError, OverflowError) as error:
        raise ChargeUnreadable(f"charge {message.price_id} of {message.subscription_id}: {error}") from error


def part_to_pb(part: ChargePart) -> charge_pb2.ChargePart:
    """A breakdown's step, as rating wrote it."""
    return charge_pb2.ChargePart(**part._asdict())


def _exact(text: str) -> Decimal:
    return parse_decimal(text, max_integer_digits=_DIGITS_MAX, max_scale=_SCALE_MAX)


@lru_cache(maxsize=10_000)  # The charges of a subscription, and of many subscriptions, share their period.
def _instant(seconds: int, nanos: int) -> datetime:
    return Timestamp(seconds=seconds, nanos=nanos).ToDatetime(tzinfo=UTC)
