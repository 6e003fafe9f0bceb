"""Charges on the wire, where their content is also what is stored: see `charge_content`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from libs.money import RoundingMode, plain
from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.charges import Charge
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.prices import ONE
from services.rating.domain.pricing import ENGINE_VERSION
from services.rating.domain.rate_card import RateCard
from services.rating.domain.rated_price import PartKind, RatedPart
from services.rating.wire.times import period_from_pb, period_to_pb
from steelyard.rating.v1 import charge_pb2, rate_card_pb2

ROUNDING_MODES = {
    RoundingMode.HALF_EVEN: rate_card_pb2.ROUNDING_MODE_HALF_EVEN,
    RoundingMode.HALF_UP: rate_card_pb2.ROUNDING_MODE_HALF_UP,
    RoundingMode.DOWN: rate_card_pb2.ROUNDING_MODE_DOWN,
    RoundingMode.UP: rate_card_pb2.ROUNDING_MODE_UP,
}
_MODES = {wire: mode for mode, wire in ROUNDING_MODES.items()}
_price_number = lru_cache(maxsize=4096)(plain)
"""Numbers of prices come again with every charge; equal ones have the same canonical text."""
_CHARGES_TAG = bytes([charge_pb2.ChargesChanged.CHARGES_FIELD_NUMBER << 3 | 2])


def charge_content(charge: PeriodCharge) -> bytes:
    """Return what a charge says, encoded: all but its version and trace. Equal charges give equal bytes.

    Encoded messages may be joined: the fields of the second are added to the first. So what is the same for all
    charges of a period, or of a price, is encoded once.
    """
    key = charge.key
    usage = charge_pb2.Charge(
        quantity=plain(charge.quantity), amount=plain(charge.amount), parts=map(_part_to_pb, charge.parts)
    )
    return (
        _period_content(key.subscription_id, charge.customer_id, key.period_start, charge.period_end)
        + _price_content(
            charge.price_id,
            charge.display_name,
            charge.meter_id,
            charge.position,
            charge.currency,
            charge.rounding_mode,
            charge.rate_card_id,
            charge.rate_card_version,
            charge.engine_version,
            charge.override_id,
        )
        + usage.SerializeToString()
    )


def charge_bytes(content: bytes, version: int, trace_parent: str) -> bytes:
    """Return an encoded Charge."""
    return content + charge_pb2.Charge(version=version, trace_parent=trace_parent).SerializeToString()


def charges_changed_bytes(tenant_id: str, charges: list[bytes]) -> bytes:
    """Return an encoded ChargesChanged of encoded charges, without decoding them."""
    joined = bytearray(charge_pb2.ChargesChanged(tenant_id=tenant_id).SerializeToString())
    for charge in charges:
        joined += _CHARGES_TAG + _varint(len(charge)) + charge
    return bytes(joined)


def charge_from_content(
    tenant_id: str, content: bytes, *, withdrawn: bool, version: int, trace_parent: str
) -> PeriodCharge:
    """Return the charge that `charge_content` was given."""
    message = charge_pb2.Charge.FromString(content)
    period = period_from_pb(message.period)
    return PeriodCharge(
        key=PeriodKey(tenant_id, message.subscription_id, period.start),
        period_end=period.end,
        customer_id=message.customer_id,
        price_id=message.price_id,
        display_name=message.display_name,
        meter_id=message.meter_id,
        position=message.position,
        currency=message.currency,
        quantity=Decimal(message.quantity),
        amount=Decimal(message.amount),
        rounding_mode=_MODES[message.rounding_mode],
        rate_card_id=message.rate_card_id,
        rate_card_version=message.rate_card_version,
        engine_version=message.engine_version,
        parts=tuple(map(_part_from_pb, message.parts)),
        withdrawn=withdrawn,
        version=version,
        trace_parent=trace_parent,
        override_id=message.override_id,
    )


def charge_to_pb(charge: PeriodCharge) -> charge_pb2.Charge:
    """Return the current value of a charge for the wire."""
    return charge_pb2.Charge.FromString(charge_bytes(charge_content(charge), charge.version, charge.trace_parent))


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
        parts=map(_part_to_pb, charge.rated.parts),
    )


@lru_cache(maxsize=1024)
def _period_content(subscription_id: str, customer_id: str, start: datetime, end: datetime) -> bytes:
    period = period_to_pb(Period(start, end))
    return charge_pb2.Charge(
        subscription_id=subscription_id, customer_id=customer_id, period=period
    ).SerializeToString()


@lru_cache(maxsize=4096)
def _price_content(
    price_id: str,
    display_name: str,
    meter_id: str,
    position: int,
    currency: str,
    rounding_mode: RoundingMode,
    rate_card_id: str,
    rate_card_version: int,
    engine_version: str,
    override_id: str,
) -> bytes:
    return charge_pb2.Charge(
        price_id=price_id,
        display_name=display_name,
        meter_id=meter_id,
        position=position,
        currency=currency,
        rounding_mode=ROUNDING_MODES[rounding_mode],
        rate_card_id=rate_card_id,
        rate_card_version=rate_card_version,
        engine_version=engine_version,
        override_id=override_id,
    ).SerializeToString()


def _part_to_pb(part: RatedPart) -> charge_pb2.ChargePart:
    return charge_pb2.ChargePart(
        kind=part.kind,
        from_quantity="" if part.from_quantity is None else _price_number(part.from_quantity),
        up_to_quantity="" if part.up_to_quantity is None else _price_number(part.up_to_quantity),
        quantity=plain(part.quantity),
        unit_amount=_price_number(part.unit_amount),
        flat_amount=_price_number(part.flat_amount),
        amount=plain(part.amount),
        per="" if part.per == ONE else _price_number(part.per),
        label=part.label,
    )


def _part_from_pb(part: charge_pb2.ChargePart) -> RatedPart:
    return RatedPart(
        PartKind(part.kind),
        quantity=Decimal(part.quantity),
        unit_amount=Decimal(part.unit_amount),
        amount=Decimal(part.amount),
        flat_amount=Decimal(part.flat_amount),
        from_quantity=Decimal(part.from_quantity) if part.from_quantity else None,
        up_to_quantity=Decimal(part.up_to_quantity) if part.up_to_quantity else None,
        per=Decimal(part.per) if part.per else ONE,
        label=part.label,
    )


def _varint(number: int) -> bytes:
    """Protobuf's encoding of a length: seven bits a byte, the lowest first, all but the last with the high bit set."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
