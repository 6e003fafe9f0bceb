"""Terms and options of prices on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from libs.money import RoundingFunction, plain
from services.rating.domain.price_terms import (
    AmountDiscount,
    Commitment,
    CommitmentKind,
    ConversionOperation,
    Discount,
    PercentDiscount,
    PriceTerms,
    UnitConversion,
)
from services.rating.domain.price_unit import PriceUnit
from services.rating.domain.prices import DEFAULT_OPTIONS, ONE, NegativeQuantity, PricingOptions, ZeroQuantityFlat
from services.rating.domain.proration import Proration
from services.rating.wire.card_reading import Reading
from steelyard.rating.v1 import rate_card_pb2 as pb

_ROUNDINGS = {
    pb.QUANTITY_ROUNDING_UNSPECIFIED: None,
    pb.QUANTITY_ROUNDING_ROUND: RoundingFunction.ROUND,
    pb.QUANTITY_ROUNDING_CEIL: RoundingFunction.CEIL,
    pb.QUANTITY_ROUNDING_FLOOR: RoundingFunction.FLOOR,
}
_ROUNDINGS_TO_PB = {rounding: wire for wire, rounding in _ROUNDINGS.items()}
_ZERO_QUANTITIES = {
    pb.ZERO_QUANTITY_UNSPECIFIED: ZeroQuantityFlat.CHARGE_FIRST_TIER,
    pb.ZERO_QUANTITY_CHARGE_FIRST_TIER: ZeroQuantityFlat.CHARGE_FIRST_TIER,
    pb.ZERO_QUANTITY_NO_CHARGE: ZeroQuantityFlat.NO_CHARGE,
}
_NEGATIVE_QUANTITIES = {
    pb.NEGATIVE_QUANTITY_UNSPECIFIED: NegativeQuantity.CLAMP_ZERO,
    pb.NEGATIVE_QUANTITY_CLAMP_ZERO: NegativeQuantity.CLAMP_ZERO,
    pb.NEGATIVE_QUANTITY_ERROR: NegativeQuantity.ERROR,
}

_PRORATIONS = {
    pb.PRORATION_UNSPECIFIED: Proration.NONE,
    pb.PRORATION_NONE: Proration.NONE,
    pb.PRORATION_BY_DAY: Proration.BY_DAY,
    pb.PRORATION_BY_SECOND: Proration.BY_SECOND,
}
_PRORATIONS_TO_PB = {
    Proration.NONE: pb.PRORATION_UNSPECIFIED,
    Proration.BY_DAY: pb.PRORATION_BY_DAY,
    Proration.BY_SECOND: pb.PRORATION_BY_SECOND,
}


def terms_from_pb(message: pb.Price, path: str, reading: Reading) -> PriceTerms:
    """Return what a price agrees on beside its model."""
    has = message.HasField
    return PriceTerms(
        conversion=_conversion(message.unit_conversion, f"{path}.unit_conversion", reading)
        if has("unit_conversion")
        else None,
        minimum_amount=reading.number_or_none(message.minimum_amount, f"{path}.minimum_amount"),
        maximum_amount=reading.number_or_none(message.maximum_amount, f"{path}.maximum_amount"),
        commitment=_commitment(message.commitment, f"{path}.commitment", reading) if has("commitment") else None,
        discounts=_discounts(message.discounts, f"{path}.discounts", reading),
        price_unit=PriceUnit(
            message.price_unit.name, reading.number(message.price_unit.amount, f"{path}.price_unit.amount")
        )
        if has("price_unit")
        else None,
    )


def options_from_pb(message: pb.Price, path: str, reading: Reading) -> PricingOptions:
    """Return the conventions that a price follows."""
    return PricingOptions(
        reading.choice(
            _ZERO_QUANTITIES, message.zero_quantity, f"{path}.zero_quantity", DEFAULT_OPTIONS.zero_quantity_flat
        ),
        reading.choice(
            _NEGATIVE_QUANTITIES,
            message.negative_quantity,
            f"{path}.negative_quantity",
            DEFAULT_OPTIONS.negative_quantity,
        ),
    )


def proration_from_pb(message: pb.Price, path: str, reading: Reading) -> Proration:
    """Return how a price is shared by parts of billing periods."""
    return reading.choice(_PRORATIONS, message.proration, f"{path}.proration", Proration.NONE)


def proration_to_pb(proration: Proration, message: pb.Price) -> None:
    """Set how a price is shared; the default stays unset."""
    message.proration = _PRORATIONS_TO_PB[proration]


def terms_to_pb(terms: PriceTerms, message: pb.Price) -> None:
    """Set the terms of a price; what is not agreed on stays unset."""
    if (conversion := terms.conversion) is not None:
        message.unit_conversion.rounding = _ROUNDINGS_TO_PB[conversion.rounding]
        message.unit_conversion.digits = conversion.digits
        if conversion.operation is ConversionOperation.MULTIPLY:
            message.unit_conversion.multiply_by = plain(conversion.factor)
        else:
            message.unit_conversion.divide_by = plain(conversion.factor)
    message.minimum_amount = "" if terms.minimum_amount is None else plain(terms.minimum_amount)
    message.maximum_amount = "" if terms.maximum_amount is None else plain(terms.maximum_amount)
    if (commitment := terms.commitment) is not None:
        message.commitment.overage_factor = plain(commitment.overage_factor)
        message.commitment.no_true_up = not commitment.true_up
        message.commitment.periods = commitment.periods if commitment.periods > 1 else 0
        if commitment.kind is CommitmentKind.AMOUNT:
            message.commitment.amount = plain(commitment.value)
        else:
            message.commitment.quantity = plain(commitment.value)
    message.discounts.extend(map(_discount_to_pb, terms.discounts))
    if (unit := terms.price_unit) is not None:
        message.price_unit.name, message.price_unit.amount = unit.name, plain(unit.amount)


def options_to_pb(options: PricingOptions, message: pb.Price) -> None:
    """Set the conventions of a price; the defaults stay unset."""
    if options.zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        message.zero_quantity = pb.ZERO_QUANTITY_NO_CHARGE
    if options.negative_quantity is NegativeQuantity.ERROR:
        message.negative_quantity = pb.NEGATIVE_QUANTITY_ERROR


def _conversion(message: pb.UnitConversion, path: str, reading: Reading) -> UnitConversion:
    operation, factor = ConversionOperation.MULTIPLY, ONE
    match message.WhichOneof("operation"):
        case "multiply_by":
            factor = reading.number(message.multiply_by, f"{path}.multiply_by")
        case "divide_by":
            operation, factor = ConversionOperation.DIVIDE, reading.number(message.divide_by, f"{path}.divide_by")
        case _:
            reading.add(f"{path}.operation", "REQUIRED", "must have multiply_by or divide_by")
    rounding = reading.choice(_ROUNDINGS, message.rounding, f"{path}.rounding", None)
    return UnitConversion(operation, factor, rounding, message.digits)


def _commitment(message: pb.Commitment, path: str, reading: Reading) -> Commitment:
    kind, value = CommitmentKind.AMOUNT, ONE
    match message.WhichOneof("promise"):
        case "amount":
            value = reading.number(message.amount, f"{path}.amount")
        case "quantity":
            kind, value = CommitmentKind.QUANTITY, reading.number(message.quantity, f"{path}.quantity")
        case _:
            reading.add(f"{path}.promise", "REQUIRED", "must have an amount or a quantity")
    factor = reading.number(message.overage_factor, f"{path}.overage_factor", default=ONE)
    return Commitment(kind, value, factor, true_up=not message.no_true_up, periods=message.periods or 1)


def _discounts(messages: Sequence[pb.Discount], path: str, reading: Reading) -> tuple[Discount, ...]:
    found: list[Discount] = []
    for index, message in enumerate(messages):
        match message.WhichOneof("discount"):
            case "percent":
                found.append(PercentDiscount(reading.number(message.percent, f"{path}[{index}].percent")))
            case "amount":
                found.append(AmountDiscount(reading.number(message.amount, f"{path}[{index}].amount")))
            case _:
                reading.add(f"{path}[{index}].discount", "REQUIRED", "must have a percent or an amount")
    return tuple(found)


def _discount_to_pb(discount: Discount) -> pb.Discount:
    match discount:
        case PercentDiscount(percent):
            return pb.Discount(percent=plain(percent))
        case AmountDiscount(amount):
            return pb.Discount(amount=plain(amount))
