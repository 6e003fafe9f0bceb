"""Exact decimals: the arithmetic context, parsing at the door, canonical text.

Python's default decimal context silently rounds to 28 digits. Arithmetic on quantities and amounts therefore runs
inside `with exact():`, where a result that does not fit raises instead.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from decimal import (
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)

QUANTITY_CONTEXT = Context(
    prec=128,  # The product of three values at the limits of the door (32 digits each), summed over 10**30 of them.
    Emin=-999,
    Emax=999,
    traps=[Inexact, InvalidOperation, DivisionByZero, Overflow, FloatOperation],
)

_DECIMAL = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?([eE][+-]?[0-9]{1,3})?")
MAX_INTEGER_DIGITS = 20
"""What the door lets in before the decimal point,"""
MAX_SCALE = 12
"""and after it,"""
MAX_TEXT = 100
"""in so many characters."""
_ZERO = Decimal(0)


class DecimalRejected(ValueError):
    """A text is not an acceptable decimal; `reason` is EMPTY, NOT_A_NUMBER, TOO_MANY_DIGITS or TOO_PRECISE."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason


def exact() -> AbstractContextManager[Context]:
    """Arithmetic in which every inexact result, float, NaN and division by zero raises (`decimal.DecimalException`)."""
    return localcontext(QUANTITY_CONTEXT)


def parse_decimal(text: str, *, max_integer_digits: int = MAX_INTEGER_DIGITS, max_scale: int = MAX_SCALE) -> Decimal:
    """The number that `-?digits[.digits][e[+-]digits]` means, never rounded; zero is never negative.

    Limits are on the value: leading zeros, and zeros at the end of a fraction, do not count as digits.

    :raises DecimalRejected: if it is not such a text or beyond the limits
    """
    match = _DECIMAL.fullmatch(text)
    if match is None or len(text) > MAX_TEXT:
        raise _rejection(text, match)
    integer, fraction, exponent = match.groups()
    if exponent is None and len(integer) <= max_integer_digits and (fraction is None or len(fraction) <= max_scale):
        return Decimal(text) or _ZERO
    value = Decimal(text)
    if not value:
        return _ZERO
    if value.adjusted() >= max_integer_digits:
        raise DecimalRejected("TOO_MANY_DIGITS", f"more than {max_integer_digits} digits before the decimal point")
    # Within the text's length and three digits of exponent this writes out at most a thousand characters.
    written = plain(value)
    if len(written.partition(".")[2]) > max_scale:
        raise DecimalRejected("TOO_PRECISE", f"more than {max_scale} digits after the decimal point")
    return Decimal(written)


def plain(value: Decimal) -> str:
    """Canonical text: no exponent, no trailing zeros after the point, "0" for zero; equal numbers give equal text.

    :raises ValueError: if the value is not finite
    """
    text = str(value)
    if text.isdigit():
        return text  # As most quantities are.
    if not value.is_finite():
        raise ValueError(f"not a finite decimal: {value}")
    if not value:
        return "0"
    written = format(value, "f")
    return written.rstrip("0").rstrip(".") if "." in written else written


def _rejection(text: str, match: re.Match[str] | None) -> DecimalRejected:
    if not text:
        return DecimalRejected("EMPTY", "empty text is not a number")
    if match is None:
        return DecimalRejected("NOT_A_NUMBER", f"not a decimal number: {text[:40]!r}")
    return DecimalRejected("TOO_MANY_DIGITS", f"a number is written in at most {MAX_TEXT} characters")
