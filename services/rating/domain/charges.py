"""From a rate card and a billing period's usage to charges: the function behind live rating, previews and re-rating."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from libs.money import exact
from services.rating.domain.prices import DEFAULT_OPTIONS, ZERO, Flat, PricingOptions
from services.rating.domain.pricing import amount_of, rate
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind, RatedPart, RatedPrice


class Charge(NamedTuple):
    """The priced usage of one price in one billing period: exact, not rounded.

    `position` is the index of the price in its card. `quantity` is the whole usage of the period, included and even
    negative usage too, so that charges can be compared with windows; 1 for a flat price.
    """

    position: int
    price: Price
    quantity: Decimal
    rated: RatedPrice

    @property
    def price_id(self) -> str:
        return self.price.price_id

    @property
    def meter_id(self) -> str | None:
        return self.price.meter_id

    @property
    def amount(self) -> Decimal:
        return self.rated.amount


def rate_card_charges(card: RateCard, usage: Mapping[str, Decimal]) -> tuple[Charge, ...]:
    """One charge per price, in the order of the card.

    :param usage: quantity of the billing period by meter id; a meter that is left out was not used
    :raises decimal.Inexact: if an amount does not fit the context of quantities
    """
    return tuple(
        Charge(position, price, quantity := _quantity(price, usage), rate_price(price, quantity))
        for position, price in enumerate(card.prices)
    )


def rate_price(price: Price, quantity: Decimal, options: PricingOptions = DEFAULT_OPTIONS) -> RatedPrice:
    """Price a period's quantity: included usage first, then the model on what is left. Raises as `rate` does."""
    included = _included(price, quantity)
    if not included:
        return rate(price.model, quantity, options)
    with exact():
        rated = rate(price.model, quantity - included, options)
    part = RatedPart(PartKind.INCLUDED, quantity=included, unit_amount=ZERO, amount=ZERO)
    return RatedPrice(rated.amount, (part, *rated.parts))


def price_amount(price: Price, quantity: Decimal, options: PricingOptions = DEFAULT_OPTIONS) -> Decimal:
    """The amount of `rate_price`, without the breakdown."""
    with exact():
        return amount_of(price.model, quantity - _included(price, quantity), options)


def _quantity(price: Price, usage: Mapping[str, Decimal]) -> Decimal:
    if price.meter_id is None:
        return Decimal(1)
    return usage.get(price.meter_id, ZERO)


def _included(price: Price, quantity: Decimal) -> Decimal:
    if isinstance(price.model, Flat):
        return ZERO
    return max(ZERO, min(quantity, price.included_quantity))
