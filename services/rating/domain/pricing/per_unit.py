"""The same amount for each unit."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import PerUnit
from services.rating.domain.rated_price import PartKind, RatedPart


def rate_per_unit(price: PerUnit, quantity: Decimal) -> tuple[RatedPart, ...]:
    """One part: all units, fractions of a unit included."""
    return (RatedPart(PartKind.PER_UNIT, quantity, price.unit_amount, per_unit_amount(price, quantity)),)


def per_unit_amount(price: PerUnit, quantity: Decimal) -> Decimal:
    return quantity * price.unit_amount
