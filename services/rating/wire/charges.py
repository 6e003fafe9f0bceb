"""Charges on the wire."""

from __future__ import annotations

from libs.money import RoundingMode, plain
from libs.periods import Period
from services.rating.domain.breakdown import BreakdownPart, breakdown_of
from services.rating.domain.charges import Charge
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.pricing import ENGINE_VERSION
from services.rating.domain.rate_card import RateCard
from services.rating.wire.times import period_to_pb
from steelyard.rating.v1 import charge_pb2, rate_card_pb2

ROUNDING_MODES = {
    RoundingMode.HALF_EVEN: rate_card_pb2.ROUNDING_MODE_HALF_EVEN,
    RoundingMode.HALF_UP: rate_card_pb2.ROUNDING_MODE_HALF_UP,
    RoundingMode.DOWN: rate_card_pb2.ROUNDING_MODE_DOWN,
    RoundingMode.UP: rate_card_pb2.ROUNDING_MODE_UP,
}


def charge_to_pb(charge: PeriodCharge) -> charge_pb2.Charge:
    """Return the current value of a charge for the wire."""
    return charge_pb2.Charge(
        subscription_id=charge.key.subscription_id,
        customer_id=charge.customer_id,
        period=period_to_pb(Period(charge.key.period_start, charge.period_end)),
        price_id=charge.price_id,
        display_name=charge.display_name,
        meter_id=charge.meter_id,
        position=charge.position,
        currency=charge.currency,
        quantity=plain(charge.quantity),
        amount=plain(charge.amount),
        rounding_mode=ROUNDING_MODES[charge.rounding_mode],
        rate_card_id=charge.rate_card_id,
        rate_card_version=charge.rate_card_version,
        engine_version=charge.engine_version,
        parts=[_part_to_pb(part) for part in charge.parts],
        version=charge.version,
        trace_parent=charge.trace_parent,
    )


def previewed_charge_to_pb(card: RateCard, charge: Charge) -> charge_pb2.Charge:
    """Return a charge for hypothetical usage: without subscription, customer, period and version."""
    price = charge.price
    return charge_pb2.Charge(
        price_id=price.price_id,
        display_name=price.display_name or price.price_id,
        meter_id=price.meter_id or "",
        position=charge.position,
        currency=card.currency,
        quantity=plain(charge.quantity),
        amount=plain(charge.amount),
        rounding_mode=ROUNDING_MODES[price.rounding_mode],
        rate_card_id=card.rate_card_id,
        rate_card_version=card.version,
        engine_version=ENGINE_VERSION,
        parts=[_part_to_pb(part) for part in breakdown_of(charge.rated)["parts"]],
    )


def _part_to_pb(part: BreakdownPart) -> charge_pb2.ChargePart:
    return charge_pb2.ChargePart(**part)
