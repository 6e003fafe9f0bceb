"""Graduated prices of units that were there for a part of the period only."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from services.rating.domain.prices import ZERO, Graduated, ZeroQuantityFlat


class ProratedChange(NamedTuple):
    """`full` units were added, or removed if negative; `prorated` is the same for what is left of the period."""

    full: Decimal
    prorated: Decimal


def rate_prorated_units(
    price: Graduated, changes: Sequence[ProratedChange], zero_quantity_flat: ZeroQuantityFlat
) -> Fraction:
    """What the changes of a period cost, in their order.

    Each change moves the position on the axis of units, and each unit that it passes costs its tier's unit amount times
    prorated/full; what is removed is given back from the top. Below zero units are those of the first tier. Flat
    amounts of the tiers up to the highest position are due in full: never less, and those alone if more was removed
    than was there. The tiers' caps do not apply.
    """
    position = highest = ZERO
    units = Fraction(0)
    for change in changes:
        if not change.full:
            continue
        after = position + change.full
        passed = _value(price, max(position, after)) - _value(price, min(position, after))
        share = Fraction(change.prorated) / Fraction(change.full)
        units += (passed if change.full > 0 else -passed) * share
        position, highest = after, max(highest, after)
    return _flat_amounts(price, highest, zero_quantity_flat) + (max(units, Fraction(0)) if position >= 0 else 0)


def _value(price: Graduated, position: Decimal) -> Fraction:
    """Of all units up to a position, at their tiers' unit amounts."""
    value, start = Fraction(0), ZERO
    if position < 0:
        return Fraction(position) * Fraction(price.tiers[0].unit_amount)
    for tier in price.tiers:
        end = position if tier.up_to is None else min(position, tier.up_to)
        value += (Fraction(end) - Fraction(start)) * Fraction(tier.unit_amount)
        if end == position:
            break
        start = end
    return value


def _flat_amounts(price: Graduated, highest: Decimal, zero_quantity_flat: ZeroQuantityFlat) -> Fraction:
    if not highest and zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        return Fraction(0)
    amount, start = Fraction(0), ZERO
    for number, tier in enumerate(price.tiers):
        if number and highest <= start:
            break
        amount += Fraction(tier.flat_amount)
        if tier.up_to is None:
            break
        start = tier.up_to
    return amount
