"""From a rate card and a billing period's usage to charges: the function behind live rating, previews and re-rating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from libs.money import Money, round_to_minor
from services.rating.domain.commitment_term import FIRST_OF_TERM, NO_TERM, TermSoFar
from services.rating.domain.pipeline import rate_lines_before, rate_price
from services.rating.domain.prices import ZERO, LinesBefore
from services.rating.domain.prorated_price import for_share, share_part
from services.rating.domain.proration import PartOfPeriod
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import RatedPrice
from services.rating.domain.usage import DimensionedQuantity
from services.rating.domain.usage_by_window import WindowedUsage
from services.rating.domain.windowed_price import cut_of, rate_windowed

NO_EVENTS: Mapping[str, int] = {}
NO_DIMENSIONS: Mapping[str, Sequence[DimensionedQuantity]] = {}


class Charge(NamedTuple):
    """The priced usage of one price in one billing period: exact, not rounded.

    `position` is the index of the price in its card. `quantity` is the whole usage of the period, included and even
    negative usage too, so that charges can be compared with windows; 1 for a price without meter.
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


def rate_card_charges(
    card: RateCard,
    usage: Mapping[str, Decimal],
    event_counts: Mapping[str, int] = NO_EVENTS,
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]] = NO_DIMENSIONS,
    shortened: PartOfPeriod | None = None,
    so_far: Mapping[str, TermSoFar] = NO_TERM,
    windowed: WindowedUsage | None = None,
) -> tuple[Charge, ...]:
    """One charge per price, in the order of the card.

    :param usage: quantity of the billing period by meter id; a meter that is left out was not used
    :param event_counts: number of events that it comes from, for prices that have an amount for each
    :param by_dimensions: the same quantities by dimensions, of meters that a matrix prices
    :param shortened: the part of a billing period that is priced; None for a whole one
    :param so_far: by price id, what terms of commitments have come to; of one that is left out it is the first period
    :param windowed: the same quantities by windows, of meters that a price of windows or times of day prices
    :raises ValueError: if a price cannot price its quantity, or needs usage by windows that is not given
    :raises decimal.Inexact: if an amount does not fit the context of quantities
    """
    charges: list[Charge] = []
    before = Money(0, card.currency)
    for position, price in enumerate(card.prices):
        quantity = _quantity(price, usage)
        share = None if shortened is None else shortened.share(price.proration)
        agreed = price if share is None else for_share(price, share.fraction)
        if isinstance(price.model, LinesBefore):
            rated = rate_lines_before(agreed.terms, before.amount, so_far.get(price.price_id, FIRST_OF_TERM))
        elif (by_windows := _windows(agreed, windowed, so_far)) is not None:
            rated = by_windows
        else:
            rated = rate_price(
                agreed,
                quantity,
                _count(price, event_counts),
                by_dimensions.get(price.meter_id or "", ()),
                so_far.get(price.price_id, FIRST_OF_TERM),
            )
        if share is not None:
            rated = rated._replace(parts=(share_part(price.proration, share), *rated.parts))
        before += round_to_minor(rated.amount, card.currency, price.rounding_mode)
        charges.append(Charge(position, price, quantity, rated))
    return tuple(charges)


def _quantity(price: Price, usage: Mapping[str, Decimal]) -> Decimal:
    if price.meter_id is None:
        return Decimal(1)
    return usage.get(price.meter_id, ZERO)


def _count(price: Price, event_counts: Mapping[str, int]) -> int:
    return event_counts.get(price.meter_id or "", 0)


def _windows(price: Price, usage: WindowedUsage | None, so_far: Mapping[str, TermSoFar]) -> RatedPrice | None:
    """The price of what has to be known by windows; None if that is not the case."""
    cut = cut_of(price, usage.time_zone if usage else "")
    if cut is None:
        return None
    if usage is None:
        raise ValueError(f"{price.price_id} needs usage by windows")
    return rate_windowed(price, cut, usage, so_far.get(price.price_id, FIRST_OF_TERM))
