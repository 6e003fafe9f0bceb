"""The same amount for each unit."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import ONE, PerUnit
from services.rating.domain.rated_price import PartKind, RatedPart


def rate_per_unit(price: PerUnit, quantity: Decimal) -> tuple[RatedPart, ...]:
    """One part: all units, fractions of a unit included."""
    amount = per_unit_amount(price, quantity)
    return (RatedPart(PartKind.PER_UNIT, quantity, price.unit_amount, amount, per=price.per),)


def per_unit_amount(price: PerUnit, quantity: Decimal) -> Decimal:
    amount = quantity * price.unit_amount
    # A valid price has a `per` by which every quotient ends.
    return amount if price.per == ONE else amount / price.per
