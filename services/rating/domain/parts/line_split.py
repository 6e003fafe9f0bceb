"""A billing period that is invoiced in several lines: what each of them owns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from libs.money import Exact, Rounding, exact
from services.rating.domain.price_terms import PercentDiscount
from services.rating.domain.prices import ZERO, Flat, PriceModel, PricingOptions, Volume
from services.rating.domain.pricing import amount_of


class LinePosition(StrEnum):
    """Where a line stands among those of its billing period."""

    SINGLE = "single"
    FIRST = "first"
    MID = "mid"
    LAST = "last"

    @property
    def ends_period(self) -> bool:
        return self in (LinePosition.SINGLE, LinePosition.LAST)

    @property
    def begins_period(self) -> bool:
        return self in (LinePosition.SINGLE, LinePosition.FIRST)


class PaymentTerm(StrEnum):
    """When a flat fee is due."""

    ADVANCE = "advance"
    ARREARS = "arrears"


class SplitAmount(StrEnum):
    """What the usage of a line costs."""

    DIFFERENCE = "difference"
    """The default: the price of all usage up to its end less that of all before. Lines add up to the whole."""
    LINE_QUANTITY = "line_quantity"
    """Its own usage, priced alone."""


class MaxSpend(NamedTuple):
    """All lines of the period together cost at most this."""

    amount: Decimal


class MinSpend(NamedTuple):
    """All lines of the period together cost at least this; what is missing is on the last one."""

    amount: Decimal


Adjustment = PercentDiscount | MaxSpend | MinSpend


class UsageLine(NamedTuple):
    """The usage above `start` up to `end` of a billing period, and what its lines before came to."""

    start: Decimal
    end: Decimal
    position: LinePosition
    previously_billed: Decimal = ZERO


class SplitCharge(NamedTuple):
    """`total` = `amount` - `discount` + `minimum_charge`."""

    amount: Decimal
    discount: Decimal
    minimum_charge: Decimal
    total: Decimal


def rate_line(
    model: PriceModel,
    line: UsageLine,
    options: PricingOptions,
    adjustments: Sequence[Adjustment],
    rounding: Rounding,
    split: SplitAmount = SplitAmount.DIFFERENCE,
) -> SplitCharge:
    """Price one line; adjustments act on the rounded amount, in their order.

    A volume price is on the line that ends the period, for all usage of it.
    """
    with exact():
        amount = rounding(_line_amount(model, line, options, split))
        left, minimum_charge = _adjusted(amount, line, adjustments, rounding)
        return SplitCharge(amount, amount - left, minimum_charge, left + minimum_charge)


def flat_line(price: Flat, term: PaymentTerm, position: LinePosition) -> Decimal:
    """A flat fee is on the first line of a period if it is due in advance, and else on the last one."""
    is_due = position.begins_period if term is PaymentTerm.ADVANCE else position.ends_period
    return price.amount if is_due else ZERO


def included_in_line(included: Decimal, line: UsageLine) -> Decimal:
    """How much of a line's usage is free, if what is free is used up from the start of the period."""
    with exact():
        return min(included, line.end) - min(included, line.start)


def adjusted_total(amount: Decimal, adjustments: Sequence[Adjustment], *, ends_period: bool) -> Decimal:
    """All usage of a period so far after its adjustments, in their order; exact."""
    line = UsageLine(ZERO, ZERO, LinePosition.LAST if ends_period else LinePosition.MID)
    with exact():
        left, minimum_charge = _adjusted(amount, line, adjustments, _unrounded)
        return left + minimum_charge


def progressive_lines(totals: Sequence[Decimal], rounding: Rounding) -> list[Decimal]:
    """Lines for a total that grows, or falls: each is the rounded total less what was billed before.

    They add up to the last total, rounded once.
    """
    with exact():
        rounded = [ZERO, *(rounding(total) for total in totals)]
        return [after - before for before, after in pairwise(rounded)]


def _adjusted(
    amount: Decimal, line: UsageLine, adjustments: Sequence[Adjustment], rounding: Rounding
) -> tuple[Decimal, Decimal]:
    """What is left of an amount, and what is missing to the minimum."""
    minimum_charge = ZERO
    for adjustment in adjustments:
        match adjustment:
            case PercentDiscount(percent):
                amount -= rounding(amount * percent.scaleb(-2))
            case MaxSpend(most):
                amount = min(amount, max(ZERO, most - line.previously_billed))
            case MinSpend(least) if line.position.ends_period:
                minimum_charge = max(ZERO, least - line.previously_billed - amount)
    return amount, minimum_charge


def _unrounded(amount: Exact) -> Decimal:
    assert isinstance(amount, Decimal)
    return amount


def _line_amount(model: PriceModel, line: UsageLine, options: PricingOptions, split: SplitAmount) -> Decimal:
    if isinstance(model, Volume):
        return amount_of(model, line.end, options) if line.position.ends_period else ZERO
    if split is SplitAmount.LINE_QUANTITY:
        return amount_of(model, line.end - line.start, options)
    whole = amount_of(model, line.end, options)
    nothing_before = line.position.begins_period and not line.start
    return whole if nothing_before else whole - amount_of(model, line.start, options)
