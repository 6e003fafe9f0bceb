"""Rounding of quantities, exact until then: half away from zero, up or down, to digits on either side of the point."""

from __future__ import annotations

import decimal
from decimal import Context, Decimal
from enum import StrEnum
from fractions import Fraction

from libs.money.decimals import QUANTITY_CONTEXT

QUOTIENT_SCALE = 12
"""Digits after the point of a quotient that nobody rounds otherwise; half to even."""
MIN_ROUNDING_DIGITS = -20
MAX_ROUNDING_DIGITS = 12
"""Digits to which may be rounded; negative ones lie left of the point."""

Exact = Decimal | Fraction
"""A quantity before it is rounded: a Fraction where something was divided."""

_ZERO = Decimal(0)
# Losing digits is the purpose here; wide enough for all of what is left of the point.
_ROUNDING_CONTEXT = Context(
    prec=2 * QUANTITY_CONTEXT.prec,
    Emin=QUANTITY_CONTEXT.Emin,
    Emax=QUANTITY_CONTEXT.Emax,
    traps=[decimal.InvalidOperation, decimal.Overflow],
)


class RoundingFunction(StrEnum):
    """Where a quantity between two neighbours goes."""

    ROUND = "round"
    """To the nearer one; from the middle away from zero."""
    CEIL = "ceil"
    """To the greater one."""
    FLOOR = "floor"
    """To the smaller one."""


_MODES = {
    RoundingFunction.ROUND: decimal.ROUND_HALF_UP,
    RoundingFunction.CEIL: decimal.ROUND_CEILING,
    RoundingFunction.FLOOR: decimal.ROUND_FLOOR,
}


def round_decimal(value: Decimal, function: RoundingFunction, digits: int) -> Decimal:
    """Round to `digits` after the point, -2 meaning to hundreds; zero is never negative.

    :raises decimal.DecimalException: if the result is too long for any quantity
    """
    unit = Decimal((0, (1,), -digits))
    return value.quantize(unit, rounding=_MODES[function], context=_ROUNDING_CONTEXT) or _ZERO


def round_exact(value: Exact, function: RoundingFunction, digits: int) -> Decimal:
    """`round_decimal` of any exact quantity: a quotient is rounded once, not first to some scale."""
    if isinstance(value, Decimal):
        return round_decimal(value, function, digits)
    scaled = value * Fraction(10) ** digits
    if function is RoundingFunction.CEIL:
        units = -(-scaled.numerator // scaled.denominator)
    elif function is RoundingFunction.FLOOR:
        units = scaled.numerator // scaled.denominator
    else:
        nearest = (2 * abs(scaled.numerator) + scaled.denominator) // (2 * scaled.denominator)
        units = nearest if scaled >= 0 else -nearest
    return QUANTITY_CONTEXT.scaleb(Decimal(units), -digits)


def to_quotient_scale(value: Exact) -> Decimal:
    """A Decimal as it is; a Fraction rounded half to even to `QUOTIENT_SCALE`."""
    if isinstance(value, Decimal):
        return value
    units = round(value * 10**QUOTIENT_SCALE)  # Of a Fraction: exact, and half to even.
    return QUANTITY_CONTEXT.scaleb(Decimal(units), -QUOTIENT_SCALE)
