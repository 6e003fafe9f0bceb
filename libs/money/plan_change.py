"""What a customer gets back and owes when a plan or a quantity changes in the middle of a billed period.

Everything is exact until it is rounded, once for each amount that stands on a document; how is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from libs.money.decimals import exact
from libs.money.rounding import Exact

Rounding = Callable[[Exact], Decimal]
"""Of an amount that stands on a document."""

_ZERO = Decimal(0)


class NewPlan(StrEnum):
    """How much of the new plan is due at once."""

    REST_OF_PERIOD = "rest_of_period"
    """Its share for the rest of the period: the periods stay as they are."""
    WHOLE_PERIOD = "whole_period"
    """All of it: a period of the new plan's interval begins with the change."""


@dataclass(frozen=True, slots=True)
class PlanFee:
    """What a plan costs for a whole period: a quantity of units, less a discount.

    The discount comes off before the fee is prorated, and never takes more than there is.
    """

    unit_amount: Decimal
    quantity: Decimal
    percent_off: Decimal = _ZERO
    amount_off: Decimal = _ZERO

    @property
    def amount(self) -> Decimal:
        with exact():
            full = self.unit_amount * self.quantity
            return max(_ZERO, full - full * self.percent_off.scaleb(-2) - self.amount_off)


class Adjustment(NamedTuple):
    """`credit` is what the old plan gives back, not above 0; `charge` what the new one costs."""

    credit: Decimal
    charge: Decimal

    @property
    def net(self) -> Decimal:
        with exact():
            return self.credit + self.charge


def plan_change(
    old: PlanFee | None, new: PlanFee | None, rest: Fraction, rounding: Rounding, due: NewPlan = NewPlan.REST_OF_PERIOD
) -> Adjustment:
    """Adjust what was billed in advance.

    :param old: None if something is added
    :param new: None if something ends
    :param rest: the share of the period that is left; with calendar days the day of the change is in it
    """
    charged = Fraction(1) if due is NewPlan.WHOLE_PERIOD else rest
    return Adjustment(
        rounding(-share_of_value(old.amount, rest)) if old else _ZERO,
        rounding(share_of_value(new.amount, charged)) if new else _ZERO,
    )


def quantity_change(
    unit_amount: Decimal, old_quantity: Decimal, new_quantity: Decimal, rest: Fraction, rounding: Rounding
) -> Decimal:
    """One amount for the difference, below 0 if there are fewer units than before."""
    with exact():
        difference = (new_quantity - old_quantity) * unit_amount
    return rounding(share_of_value(difference, rest))


class Upgrade(NamedTuple):
    """What the new plan costs for its share, and what of that was paid before."""

    new_prorated: Decimal
    already_paid: Decimal

    @property
    def amount(self) -> Decimal:
        with exact():
            return self.new_prorated - self.already_paid


def upgrade(
    new_amount: Decimal, new_share: Fraction, billed: Decimal, billed_share: Fraction, rounding: Rounding
) -> Upgrade:
    """The new plan's share, less what was billed for the old one.

    :param billed_share: of what was billed: the part for the same days, or 1 to give back all of it
    """
    return Upgrade(rounding(share_of_value(new_amount, new_share)), rounding(share_of_value(billed, billed_share)))


def capped_credit(potential: Decimal, paid: Decimal, credited_before: Decimal) -> Decimal:
    """Never more than was paid, together with earlier credits, and never below 0."""
    with exact():
        return max(_ZERO, min(potential, paid - credited_before))


def share_of_value(value: Decimal, share: Fraction) -> Fraction:
    """The share of an amount or a quantity, exact."""
    return Fraction(value) * share
