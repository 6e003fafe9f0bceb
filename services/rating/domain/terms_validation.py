"""What is wrong with the terms of a price, by the field names that clients use."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from libs.errors import Violation
from libs.money import MAX_ROUNDING_DIGITS, MIN_ROUNDING_DIGITS
from services.rating.domain.commitment_term import MAX_COMMITTED_PERIODS
from services.rating.domain.number_checks import check_divisor, check_number
from services.rating.domain.price_terms import (
    NO_TERMS,
    AmountDiscount,
    Commitment,
    CommitmentKind,
    ConversionOperation,
    Discount,
    PercentDiscount,
    UnitConversion,
)
from services.rating.domain.price_unit import check_price_unit
from services.rating.domain.prices import Flat, LinesBefore, Matrix, Percentage, TimeOfDay
from services.rating.domain.prorated_price import has_shares
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price
from services.rating.domain.windows_validation import check_per_window

MAX_DISCOUNTS = 20
_WHOLE = Decimal(100)


def check_terms(price: Price, path: str = "price") -> list[Violation]:
    """Everything wrong with what a price agrees on beside its model."""
    found = (_check_proration(price, path), *_found(price, path), *check_per_window(price, path))
    return [violation for violation in found if violation]


def _found(price: Price, path: str) -> Iterator[Violation | None]:
    terms = price.terms
    if isinstance(price.model, LinesBefore):
        if terms == NO_TERMS:
            yield Violation(f"{path}.lines_before", "REQUIRED", "needs a minimum, maximum, commitment or discount")
        if terms.conversion is not None:
            yield Violation(f"{path}.unit_conversion", "NOT_ALLOWED", "the lines before are no quantity")
        if terms.commitment is not None and terms.commitment.kind is CommitmentKind.QUANTITY:
            yield Violation(f"{path}.commitment.quantity", "NOT_ALLOWED", "the lines before are no quantity")
        if terms.price_unit is not None:
            yield Violation(f"{path}.price_unit", "NOT_ALLOWED", "the lines before are money")
    if isinstance(price.model, Flat):
        present = {
            "unit_conversion": terms.conversion,
            "minimum_amount": terms.minimum_amount,
            "maximum_amount": terms.maximum_amount,
            "commitment": terms.commitment,
        }
        for name, value in present.items():
            if value is not None:
                yield Violation(f"{path}.{name}", "NOT_ALLOWED", "a flat price depends on no quantity")
    if isinstance(price.model, Matrix | TimeOfDay):
        yield from _check_split(price, path)
    if terms.conversion is not None:
        yield from _check_conversion(terms.conversion, f"{path}.unit_conversion")
    if terms.minimum_amount is not None:
        yield check_number(terms.minimum_amount, f"{path}.minimum_amount")
    if terms.maximum_amount is not None:
        yield _check_maximum(terms.maximum_amount, terms.minimum_amount, f"{path}.maximum_amount")
    if terms.commitment is not None:
        yield from _check_commitment(terms.commitment, price, f"{path}.commitment")
    if terms.price_unit is not None:
        yield from check_price_unit(terms.price_unit, f"{path}.price_unit")
        if terms.commitment is not None and terms.commitment.periods > 1:
            description = "a unit may cost something else in a later version: such a commitment is money"
            yield Violation(f"{path}.price_unit", "NOT_ALLOWED", description)
    if len(terms.discounts) > MAX_DISCOUNTS:
        yield Violation(f"{path}.discounts", "TOO_MANY", f"must be at most {MAX_DISCOUNTS}")
        return
    for index, discount in enumerate(terms.discounts):
        yield _check_discount(discount, f"{path}.discounts[{index}]")


def _check_split(price: Price, path: str) -> Iterator[Violation]:
    """Terms of a price of parts of a quantity."""
    kind, which = ("a matrix", "dimensions") if isinstance(price.model, Matrix) else ("a time of day", "times")
    if price.terms.conversion is not None:
        yield Violation(f"{path}.unit_conversion", "NOT_ALLOWED", f"{kind} has `per` instead")
    if price.included_quantity:
        yield Violation(f"{path}.included_quantity", "NOT_ALLOWED", f"nobody could say which {which} are free")


def _check_proration(price: Price, path: str) -> Violation | None:
    if price.proration is Proration.NONE or has_shares(price):
        return None
    description = "needs a flat price, included_quantity, minimum_amount, maximum_amount or commitment (of one period)"
    return Violation(f"{path}.proration", "NOT_ALLOWED", description)


def _check_conversion(conversion: UnitConversion, path: str) -> Iterator[Violation | None]:
    exactly = conversion.operation is ConversionOperation.DIVIDE and conversion.rounding is None
    check = check_divisor if exactly else _check_positive
    yield check(conversion.factor, f"{path}.factor")
    if not MIN_ROUNDING_DIGITS <= conversion.digits <= MAX_ROUNDING_DIGITS:
        yield Violation(f"{path}.digits", "OUT_OF_RANGE", f"must be {MIN_ROUNDING_DIGITS} to {MAX_ROUNDING_DIGITS}")


def _check_positive(value: Decimal, field: str) -> Violation | None:
    return check_number(value, field, above_zero=True)


def _check_maximum(maximum: Decimal, minimum: Decimal | None, field: str) -> Violation | None:
    if violation := check_number(maximum, field):
        return violation
    if minimum is not None and minimum.is_finite() and maximum < minimum:
        return Violation(field, "BELOW_MINIMUM", "must not be below minimum_amount")
    return None


def _check_factor(factor: Decimal, field: str) -> Violation | None:
    if violation := check_number(factor, field):
        return violation
    return Violation(field, "BELOW_ONE", "must not be below 1: overage never costs less") if factor < 1 else None


def _check_commitment(commitment: Commitment, price: Price, path: str) -> Iterator[Violation | None]:
    yield check_number(commitment.value, f"{path}.value", above_zero=True)
    yield _check_factor(commitment.overage_factor, f"{path}.overage_factor")
    if not 1 <= commitment.periods <= MAX_COMMITTED_PERIODS:
        yield Violation(f"{path}.periods", "OUT_OF_RANGE", f"must be 1 to {MAX_COMMITTED_PERIODS}")
    if commitment.kind is CommitmentKind.QUANTITY:
        if commitment.periods > 1:
            yield Violation(f"{path}.periods", "NOT_ALLOWED", "a commitment over several billing periods is an amount")
        if isinstance(price.model, Percentage | Matrix | TimeOfDay):
            yield Violation(f"{path}.kind", "NOT_ALLOWED", "what it costs follows from no quantity alone")


def _check_discount(discount: Discount, path: str) -> Violation | None:
    match discount:
        case PercentDiscount(percent):
            if violation := check_number(percent, f"{path}.percent", above_zero=True):
                return violation
            return Violation(f"{path}.percent", "ABOVE_100", "must be at most 100") if percent > _WHOLE else None
        case AmountDiscount(amount):
            return check_number(amount, f"{path}.amount", above_zero=True)
