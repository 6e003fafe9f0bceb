"""Money that is invoiced and paid: whole minor units of one currency."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import (
    ROUND_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Context,
    Decimal,
    FloatOperation,
    InvalidOperation,
    Overflow,
)
from enum import StrEnum

from libs.money.currencies import MINOR_DIGITS
from libs.money.decimals import QUANTITY_CONTEXT

# As wide as quantities, but the one place where losing digits is the purpose.
_ROUNDING_CONTEXT = Context(
    prec=QUANTITY_CONTEXT.prec,
    Emin=QUANTITY_CONTEXT.Emin,
    Emax=QUANTITY_CONTEXT.Emax,
    traps=[InvalidOperation, Overflow, FloatOperation],
)


class RoundingMode(StrEnum):
    """How an amount becomes whole minor units; every mode treats -x as the mirror image of x."""

    HALF_EVEN = "half_even"
    """To the nearest; a tie goes to the even neighbour."""
    HALF_UP = "half_up"
    """To the nearest; a tie goes away from zero."""
    DOWN = "down"
    """Towards zero."""
    UP = "up"
    """Away from zero."""


_DECIMAL_MODES = {
    RoundingMode.HALF_EVEN: ROUND_HALF_EVEN,
    RoundingMode.HALF_UP: ROUND_HALF_UP,
    RoundingMode.DOWN: ROUND_DOWN,
    RoundingMode.UP: ROUND_UP,
}


class CurrencyMismatch(ValueError):
    """Amounts of different currencies were combined."""


@dataclass(frozen=True, slots=True)
class Money:
    """A whole number of minor units (cents, yen) of one ISO 4217 currency.

    :raises TypeError: if `minor_units` is not an int (bool and float are both refused)
    :raises ValueError: if the currency is unknown
    """

    minor_units: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor_units) is not int:
            raise TypeError(f"minor_units must be int, got {self.minor_units!r}")
        if self.currency not in MINOR_DIGITS:
            raise ValueError(f"unknown currency {self.currency!r}")

    @property
    def amount(self) -> Decimal:
        """In major units (euros, not cents), exact."""
        return QUANTITY_CONTEXT.scaleb(Decimal(self.minor_units), -MINOR_DIGITS[self.currency])

    def __add__(self, other: Money) -> Money:
        return Money(self.minor_units + self._minor_units_of(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor_units - self._minor_units_of(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor_units, self.currency)

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    def _minor_units_of(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} cannot be combined")
        return other.minor_units


def round_amount(amount: Decimal, digits: int, mode: RoundingMode) -> Decimal:
    """Round an exact amount to `digits` after the point, as `round_to_minor` does to those of a currency.

    :raises decimal.InvalidOperation: if the amount is not finite or does not fit the context
    """
    return amount.quantize(Decimal((0, (1,), -digits)), rounding=_DECIMAL_MODES[mode], context=_ROUNDING_CONTEXT)


def round_to_minor(amount: Decimal, currency: str, mode: RoundingMode = RoundingMode.HALF_EVEN) -> Money:
    """Round an exact amount in major units once, to the currency's minor unit.

    :raises ValueError: if the currency is unknown
    :raises decimal.InvalidOperation: if the amount is not finite or does not fit the context
    """
    if currency not in MINOR_DIGITS:
        raise ValueError(f"unknown currency {currency!r}")
    rounded = round_amount(amount, MINOR_DIGITS[currency], mode)
    return Money(int(rounded.scaleb(MINOR_DIGITS[currency], context=_ROUNDING_CONTEXT)), currency)
