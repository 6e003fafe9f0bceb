"""How long amounts of a price can become: whatever is multiplied adds its digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from libs.errors import Violation
from libs.money import QUANTITY_CONTEXT, plain
from services.rating.domain.price_terms import ConversionOperation, PercentDiscount
from services.rating.domain.prices import (
    ONE,
    AnyPriceModel,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    LinesBefore,
    Matrix,
    Package,
    Percentage,
    PerUnit,
    Stairstep,
    TimeOfDay,
    Volume,
)
from services.rating.domain.rate_card import Price

MAX_SCALE_OF_FACTORS = 44
MAX_INTEGER_DIGITS_OF_FACTORS = 30
"""Together with the digits of a quantity this leaves amounts that every service can hold and exchange."""


def check_precision(price: Price, path: str) -> Violation | None:
    """Whether all that a quantity may be multiplied by has few enough digits together. The numbers are valid."""
    scale = integer_digits = 0
    for factors in _factors(price):
        scale += max(map(_scale, factors), default=0)
        integer_digits += max((factor.adjusted() + 1 for factor in factors if factor), default=0)
    if scale > MAX_SCALE_OF_FACTORS:
        description = f"its factors together must have at most {MAX_SCALE_OF_FACTORS} digits after the point"
        return Violation(path, "TOO_PRECISE", description)
    if integer_digits > MAX_INTEGER_DIGITS_OF_FACTORS:
        description = f"its factors together must have at most {MAX_INTEGER_DIGITS_OF_FACTORS} digits before the point"
        return Violation(path, "TOO_MANY_DIGITS", description)
    return None


def _factors(price: Price) -> Iterator[Sequence[Decimal]]:
    """For each stage what it may multiply by."""
    terms = price.terms
    if (conversion := terms.conversion) is not None:
        if conversion.operation is ConversionOperation.MULTIPLY:
            yield [conversion.factor]
        elif conversion.rounding is None:
            yield [QUANTITY_CONTEXT.divide(ONE, conversion.factor)]
    yield _of_model(price.model)
    if isinstance(price.model, PerUnit | Matrix | TimeOfDay):
        yield [QUANTITY_CONTEXT.divide(ONE, price.model.per)]
    if terms.commitment is not None:
        yield [terms.commitment.overage_factor]
    if terms.price_unit is not None:
        yield [terms.price_unit.amount]
    for discount in terms.discounts:
        if isinstance(discount, PercentDiscount):
            yield [discount.percent.scaleb(-2)]


def _of_model(model: AnyPriceModel) -> Sequence[Decimal]:
    match model:
        case PerUnit():
            return [model.unit_amount]
        case Graduated() | Volume():
            return [tier.unit_amount for tier in model.tiers]
        case GraduatedPercentage():
            return [tier.rate_percent.scaleb(-2) for tier in model.tiers]
        case Percentage():
            return [model.rate_percent.scaleb(-2), model.fixed_per_event]
        case Dynamic():
            return [model.multiplier]
        case Package():
            return [model.amount]
        case Matrix():
            return [model.default_unit_amount, *(row.unit_amount for row in model.rows)]
        case TimeOfDay():
            return [model.default_unit_amount, *(band.unit_amount for band in model.bands)]
        case Flat() | Stairstep() | LinesBefore():
            return []


def _scale(value: Decimal) -> int:
    return len(plain(value).partition(".")[2])
