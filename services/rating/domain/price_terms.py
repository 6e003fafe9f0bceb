"""What a price agrees on beside its model: conversion of units, minimum and maximum, commitment, discounts.

All amounts are in major units of the rate card's currency, or in the price's own unit, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from libs.money import RoundingFunction
from services.rating.domain.price_unit import PriceUnit
from services.rating.domain.prices import ONE


class ConversionOperation(StrEnum):
    MULTIPLY = "multiply"
    DIVIDE = "divide"


@dataclass(frozen=True, slots=True)
class UnitConversion:
    """Of what is metered into what is priced (bytes into GiB), rounded to `digits` after the point if `rounding` says
    how. A division that is not rounded has a factor by which every quotient ends."""

    operation: ConversionOperation
    factor: Decimal
    rounding: RoundingFunction | None = None
    digits: int = 0


class CommitmentKind(StrEnum):
    AMOUNT = "amount"
    """`value` is an amount of money."""
    QUANTITY = "quantity"
    """`value` is a quantity, and the commitment what the price's model makes of it."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """What the customer has promised to spend in each billing period, or in each term of so many of them.

    What is above it costs `overage_factor` times as much. `true_up`: what is missing is due, at the end.
    """

    kind: CommitmentKind
    value: Decimal
    overage_factor: Decimal = ONE
    true_up: bool = True
    periods: int = 1


@dataclass(frozen=True, slots=True)
class PercentDiscount:
    """`percent` of what is due, above 0 and up to 100."""

    percent: Decimal


@dataclass(frozen=True, slots=True)
class AmountDiscount:
    """`amount` of what is due, and no more than that."""

    amount: Decimal


Discount = PercentDiscount | AmountDiscount


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """Of one price; each is optional, and they act in the order of the fields: see `pipeline`."""

    conversion: UnitConversion | None = None
    minimum_amount: Decimal | None = None
    maximum_amount: Decimal | None = None
    commitment: Commitment | None = None
    discounts: tuple[Discount, ...] = ()
    price_unit: PriceUnit | None = None


NO_TERMS = PriceTerms()
