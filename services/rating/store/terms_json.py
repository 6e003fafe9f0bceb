"""Terms and options of prices as JSON; numbers are canonical decimal strings, what is not agreed on is left out."""

from __future__ import annotations

from decimal import Decimal
from typing import NotRequired, TypedDict

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
from services.rating.domain.prices import NegativeQuantity, PricingOptions, ZeroQuantityFlat


class ConversionJson(TypedDict):
    operation: str
    factor: str
    rounding: str | None
    digits: int


# Old code would take what is promised for several billing periods as promised for each. Of this it knows no price: the
# billing period is set aside with PRICING_FAILED.
_NOT_FOR_OLD_CODE = "NaN"


class CommitmentJson(TypedDict):
    kind: str
    value: str
    overage_factor: str
    true_up: bool
    term_value: NotRequired[str]
    """Of a commitment over several billing periods, instead of `value`."""
    periods: NotRequired[int]


class TermsJson(TypedDict):
    conversion: NotRequired[ConversionJson]
    minimum_amount: NotRequired[str]
    maximum_amount: NotRequired[str]
    commitment: NotRequired[CommitmentJson]
    discounts: NotRequired[list[tuple[str, str]]]
    price_unit: NotRequired[tuple[str, str]]
    """Name, and what one costs."""


class OptionsJson(TypedDict):
    zero_quantity_flat: str
    negative_quantity: str


def terms_to_json(terms: PriceTerms) -> TermsJson:
    """Return terms as they are stored."""
    stored = TermsJson()
    if (conversion := terms.conversion) is not None:
        stored["conversion"] = ConversionJson(
            operation=conversion.operation.value,
            factor=plain(conversion.factor),
            rounding=None if conversion.rounding is None else conversion.rounding.value,
            digits=conversion.digits,
        )
    if terms.minimum_amount is not None:
        stored["minimum_amount"] = plain(terms.minimum_amount)
    if terms.maximum_amount is not None:
        stored["maximum_amount"] = plain(terms.maximum_amount)
    if (commitment := terms.commitment) is not None:
        stored["commitment"] = CommitmentJson(
            kind=commitment.kind.value,
            value=plain(commitment.value),
            overage_factor=plain(commitment.overage_factor),
            true_up=commitment.true_up,
        )
        if commitment.periods > 1:
            stored["commitment"]["term_value"] = stored["commitment"]["value"]
            stored["commitment"]["value"] = _NOT_FOR_OLD_CODE
            stored["commitment"]["periods"] = commitment.periods
    if terms.discounts:
        stored["discounts"] = [_discount_to_json(discount) for discount in terms.discounts]
    if (unit := terms.price_unit) is not None:
        stored["price_unit"] = (unit.name, plain(unit.amount))
    return stored


def terms_from_json(stored: TermsJson) -> PriceTerms:
    """Return the terms that `terms_to_json` was given."""
    conversion, commitment = stored.get("conversion"), stored.get("commitment")
    minimum, maximum = stored.get("minimum_amount"), stored.get("maximum_amount")
    return PriceTerms(
        conversion=None if conversion is None else _conversion_from_json(conversion),
        minimum_amount=None if minimum is None else Decimal(minimum),
        maximum_amount=None if maximum is None else Decimal(maximum),
        commitment=None if commitment is None else _commitment_from_json(commitment),
        discounts=tuple(_discount_from_json(*discount) for discount in stored.get("discounts", [])),
        price_unit=_price_unit_from_json(*stored["price_unit"]) if "price_unit" in stored else None,
    )


def options_to_json(options: PricingOptions) -> OptionsJson:
    """Return options as they are stored."""
    return OptionsJson(
        zero_quantity_flat=options.zero_quantity_flat.value, negative_quantity=options.negative_quantity.value
    )


def options_from_json(stored: OptionsJson) -> PricingOptions:
    """Return the options that `options_to_json` was given."""
    return PricingOptions(ZeroQuantityFlat(stored["zero_quantity_flat"]), NegativeQuantity(stored["negative_quantity"]))


def _conversion_from_json(stored: ConversionJson) -> UnitConversion:
    rounding = stored["rounding"]
    return UnitConversion(
        ConversionOperation(stored["operation"]),
        Decimal(stored["factor"]),
        None if rounding is None else RoundingFunction(rounding),
        stored["digits"],
    )


def _commitment_from_json(stored: CommitmentJson) -> Commitment:
    return Commitment(
        CommitmentKind(stored["kind"]),
        Decimal(stored.get("term_value", stored["value"])),
        Decimal(stored["overage_factor"]),
        stored["true_up"],
        stored.get("periods", 1),
    )


def _price_unit_from_json(name: str, amount: str) -> PriceUnit:
    return PriceUnit(name, Decimal(amount))


def _discount_to_json(discount: Discount) -> tuple[str, str]:
    match discount:
        case PercentDiscount(percent):
            return "percent", plain(percent)
        case AmountDiscount(amount):
            return "amount", plain(amount)


def _discount_from_json(kind: str, value: str) -> Discount:
    match kind:
        case "percent":
            return PercentDiscount(Decimal(value))
        case "amount":
            return AmountDiscount(Decimal(value))
        case unknown:
            raise ValueError(f"no discount: {unknown}")
