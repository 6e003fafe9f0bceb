"""Shares of an amount of money."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from services.rating.domain.prices import Graduated, GraduatedPercentage, Percentage, Tier
from services.rating.domain.rated_price import PartKind, RatedPart


def rate_percentage(price: Percentage, quantity: Decimal, event_count: int) -> tuple[RatedPart, ...]:
    """The share, and if it is agreed on what is due for each event."""
    rate = of_percent(price.rate_percent)
    share = RatedPart(PartKind.PERCENTAGE, quantity, rate, quantity * rate)
    if not price.fixed_per_event:
        return (share,)
    events = Decimal(event_count)
    return share, RatedPart(PartKind.EVENTS, events, price.fixed_per_event, events * price.fixed_per_event)


def percentage_amount(price: Percentage, quantity: Decimal, event_count: int) -> Decimal:
    return quantity * of_percent(price.rate_percent) + event_count * price.fixed_per_event


@lru_cache(maxsize=1024)
def as_graduated(price: GraduatedPercentage) -> Graduated:
    """The same tiers with amounts for each unit of money."""
    return Graduated(tuple(Tier(tier.up_to, of_percent(tier.rate_percent), tier.flat_amount) for tier in price.tiers))


def of_percent(percent: Decimal) -> Decimal:
    return percent.scaleb(-2)
