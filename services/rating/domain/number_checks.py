"""What is wrong with a number of a price."""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation

from libs.errors import Violation
from libs.money import plain

MAX_INTEGER_DIGITS = 20
MAX_SCALE = 12
MAX_QUOTIENT_DIGITS = 40
_QUOTIENTS = Context(prec=MAX_QUOTIENT_DIGITS, traps=[Inexact, InvalidOperation, DivisionByZero])


def check_number(value: Decimal, field: str, *, above_zero: bool = False) -> Violation | None:
    """Whether it is a finite number, not below 0, within the limits of the door."""
    if not value.is_finite():
        return Violation(field, "NOT_A_NUMBER", "must be a finite number")
    if value < 0:
        return Violation(field, "NEGATIVE", "must not be negative")
    if above_zero and not value:
        return Violation(field, "NOT_POSITIVE", "must be above 0")
    # Before writing it out: Decimal("1e999999") is short here and a megabyte there.
    if value and value.adjusted() >= MAX_INTEGER_DIGITS:
        return Violation(field, "TOO_MANY_DIGITS", f"must have at most {MAX_INTEGER_DIGITS} digits before the point")
    if (value and value.adjusted() < -MAX_SCALE) or len(plain(value).partition(".")[2]) > MAX_SCALE:
        return Violation(field, "TOO_PRECISE", f"must have at most {MAX_SCALE} digits after the point")
    return None


def check_divisor(value: Decimal, field: str) -> Violation | None:
    """Whether what is divided by it always ends, so that nothing has to be rounded."""
    if violation := check_number(value, field, above_zero=True):
        return violation
    try:
        _QUOTIENTS.divide(Decimal(1), value)
    except Inexact:
        return Violation(
            field, "NOT_EXACT", "must divide everything without remainder, as 1000 or 1024 do and 60 does not"
        )
    return None
