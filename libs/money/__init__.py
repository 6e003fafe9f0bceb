"""Money and exact decimals: parsing, canonical text, rounding to minor units, allocation."""

from libs.money.allocation import allocate
from libs.money.currencies import MINOR_DIGITS
from libs.money.decimals import (
    MAX_INTEGER_DIGITS,
    MAX_SCALE,
    QUANTITY_CONTEXT,
    DecimalRejected,
    exact,
    parse_decimal,
    plain,
)
from libs.money.money import CurrencyMismatch, Money, RoundingMode, round_to_minor
from libs.money.rounding import RoundingFunction, round_decimal, round_exact

__all__ = [
    "MAX_INTEGER_DIGITS",
    "MAX_SCALE",
    "MINOR_DIGITS",
    "QUANTITY_CONTEXT",
    "CurrencyMismatch",
    "DecimalRejected",
    "Money",
    "RoundingFunction",
    "RoundingMode",
    "allocate",
    "exact",
    "parse_decimal",
    "plain",
    "round_decimal",
    "round_exact",
    "round_to_minor",
]
