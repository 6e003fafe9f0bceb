"""Rating's charges as values of billing: the same message in its stream, in its answers and on our invoices."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

from libs.money import DecimalRejected, RoundingMode, parse_decimal
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
_PART_FIELDS = ("kind", "from_quantity", "up_to_quantity", "quantity", "unit_amount", "flat_amount", "amount")


class ChargeUnreadable(Exception):
    """The message is not a charge that can be invoiced."""


def charge_from_pb(message: charge_pb2.Charge) -> Charge:
    """:raises ChargeUnreadable: if a number, the period or the rounding mode makes no sense"""
    if not message.HasField("period") or message.rounding_mode not in _MODES or not message.version:
        raise ChargeUnreadable(f"charge {message.price_id} of {message.subscription_id} is incomplete")
    try:
        quantity, amount = _exact(message.quantity), _exact(message.amount)
    except DecimalRejected as error:
        raise ChargeUnreadable(f"charge {message.price_id} of {message.subscription_id}: {error}") from error
    return Charge(
        key=PeriodKey(message.subscription_id, message.period.start.ToDatetime(tzinfo=UTC)),
        customer_id=message.customer_id,
        price_id=message.price_id,
        display_name=message.display_name,
        meter_id=message.meter_id,
        position=message.position,
        currency=message.currency,
        quantity=quantity,
        amount=amount,
        rounding_mode=_MODES[message.rounding_mode],
        rate_card_id=message.rate_card_id,
        rate_card_version=message.rate_card_version,
        engine_version=message.engine_version,
        parts=tuple(ChargePart(*(getattr(part, field) for field in _PART_FIELDS)) for part in message.parts),
        version=message.version,
        trace_parent=message.trace_parent,
    )


def part_to_pb(part: ChargePart) -> charge_pb2.ChargePart:
    """A breakdown's step, as rating wrote it."""
    return charge_pb2.ChargePart(**{field: getattr(part, field) for field in _PART_FIELDS})


def _exact(text: str) -> Decimal:
    return parse_decimal(text, max_integer_digits=_DIGITS_MAX, max_scale=_SCALE_MAX)
