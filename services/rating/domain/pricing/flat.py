"""A fixed amount per billing period."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import Flat
from services.rating.domain.rated_price import PartKind, RatedPart


def rate_flat(price: Flat) -> tuple[RatedPart, ...]:
    """One part: the amount, once."""
    return (RatedPart(PartKind.FLAT, quantity=Decimal(1), unit_amount=price.amount, amount=price.amount),)


def flat_amount(price: Flat) -> Decimal:
    return price.amount
