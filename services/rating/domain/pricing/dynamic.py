"""What the events themselves say they cost."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import Dynamic
from services.rating.domain.rated_price import PartKind, RatedPart


def rate_dynamic(price: Dynamic, quantity: Decimal) -> tuple[RatedPart, ...]:
    """One part: the sum of the events' amounts, multiplied."""
    return (RatedPart(PartKind.DYNAMIC, quantity, price.multiplier, dynamic_amount(price, quantity)),)


def dynamic_amount(price: Dynamic, quantity: Decimal) -> Decimal:
    return quantity * price.multiplier
