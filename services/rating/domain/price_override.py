"""Prices that were agreed with one customer, in the place of those of a card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.rate_card import Price, RateCard


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """Prices for all subscriptions of a customer or for one subscription: the other id is empty.

    It prices billing periods that start at or after `effective_at` (None: always) and before `end_at` (None: without
    end), as far as the card prices them. `number` orders overrides by their creation. Its amounts
    are in `currency`, and price nothing in another; empty is that of the card's `prices`.
    """

    override_id: str
    rate_card_id: str
    customer_id: str
    subscription_id: str
    prices: tuple[Price, ...]
    effective_at: datetime | None
    end_at: datetime | None
    reason: str = ""
    created_at: datetime | None = None
    number: int = 0
    currency: str = ""

    def in_force(self, at: datetime) -> bool:
        """Whether it prices billing periods that start then."""
        return (self.effective_at is None or self.effective_at <= at) and (self.end_at is None or at < self.end_at)

    def concerns(self, period: BillingPeriod) -> bool:
        """Whether it prices a billing period."""
        named = (
            self.subscription_id == period.key.subscription_id
            if self.subscription_id
            else self.customer_id == period.customer_id
        )
        return named and self.rate_card_id == period.rate_card_id and self.in_force(period.key.period_start)


class OverrideFilter(NamedTuple):
    """Which overrides are listed; an empty id means any."""

    rate_card_id: str = ""
    customer_id: str = ""
    subscription_id: str = ""


def agreed_card(card: RateCard, currency: str, overrides: Iterable[PriceOverride]) -> RateCard | None:
    """Return a card in one currency (empty: that of its `prices`) with the prices of overrides that are in force.

    None if it has no prices in the currency. Overrides in another one, and prices that the card lacks, are left out.
    One of a subscription beats one of a customer, the later of two alike the earlier one.
    """
    priced = card.in_currency(currency)
    if priced is None:
        return None
    return _overridden(
        priced, (override for override in overrides if (override.currency or card.currency) == priced.currency)
    )


def _overridden(card: RateCard, overrides: Iterable[PriceOverride]) -> RateCard:
    prices: dict[str, Price] = {}
    for override in sorted(overrides, key=lambda item: (bool(item.subscription_id), item.number)):
        for price in override.prices:
            prices[price.price_id] = replace(price, override_id=override.override_id)
    if not prices:
        return card
    return replace(card, prices=tuple(prices.get(price.price_id, price) for price in card.prices))
