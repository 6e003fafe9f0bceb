"""Prices that act on the windows of a billing period: on each by itself, or by the time of day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

from libs.money import exact
from services.rating.domain.commitment_term import FIRST_OF_TERM, TermSoFar
from services.rating.domain.pipeline import rate_in_units, rate_price
from services.rating.domain.price_terms import AmountDiscount, PriceTerms
from services.rating.domain.price_unit import in_currency
from services.rating.domain.prices import ZERO, EmptyWindows, TimeOfDay
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind, RatedPart, RatedPrice
from services.rating.domain.usage_by_window import MeterCut, WindowCut, WindowedUsage, window_starts

_FIRST = (PartKind.CONVERTED, PartKind.INCLUDED)
_ORDER = {kind: number for number, kind in enumerate([*_FIRST, *(kind for kind in PartKind if kind not in _FIRST)])}
"""That of the stages of a price."""
_LUMPS = {PartKind.MINIMUM, PartKind.MAXIMUM, PartKind.TRUE_UP}
"""One amount each, which is another one in every window."""

_Place = tuple[PartKind, int, Decimal | None, Decimal | None, Decimal, Decimal, str]


class PricedWindow(NamedTuple):
    """One hour or day of a billing period, and what it costs."""

    start: datetime
    quantity: Decimal
    amount: Decimal


def cut_of(price: Price, time_zone: str) -> MeterCut | None:
    """The usage by windows that a price needs in a billing period of that zone."""
    if price.meter_id is None:
        return None
    if price.per_window is not None:
        return MeterCut(price.meter_id, WindowCut(price.per_window.size.value), time_zone)
    if isinstance(price.model, TimeOfDay):
        return MeterCut(price.meter_id, WindowCut.WEEK_TIME, price.model.time_zone or time_zone)
    return None


def cuts_of(card: RateCard, time_zone: str) -> set[MeterCut]:
    """The usage by windows that the prices of a card need in a billing period of that zone."""
    return {cut for price in card.prices if (cut := cut_of(price, time_zone)) is not None}


def rate_windowed(price: Price, cut: MeterCut, usage: WindowedUsage, so_far: TermSoFar = FIRST_OF_TERM) -> RatedPrice:
    """Price the usage of a billing period by its windows; the parts add up to the amount.

    `so_far`: of the commitment of a price by time of day, which is one of billing periods.

    :raises UnknownZone: if the zone is not known here
    :raises ValueError: if the usage by windows is not known, or as `rate_price` does
    :raises decimal.Inexact: if an amount does not fit the context of quantities
    """
    if price.per_window is None:
        return rate_price(price, ZERO, so_far=so_far, by_week_time=usage.of(cut))
    counts = Counter(quantity for _, quantity in usage.of(cut))
    if price.per_window.empty is EmptyWindows.PRICE:
        counts[ZERO] += len(window_starts(usage.period, cut.cut, cut.time_zone)) - counts.total()
    # Windows that are alike cost the same: an idle month is priced once.
    rated = [(Decimal(count), rate_in_units(price, quantity)) for quantity, count in counts.items() if count]
    with exact():
        amount = sum((count * each.amount for count, each in rated), ZERO)
        windows = RatedPart(
            PartKind.WINDOWS, Decimal(counts.total()), ZERO, ZERO, label=f"{price.per_window.size.value}s"
        )
        in_units = RatedPrice(amount, (windows, *_added_up(price.terms, rated)))
    return in_currency(in_units, price.terms.price_unit)


def priced_windows(
    price: Price, cut: MeterCut, usage: WindowedUsage, after: datetime | None, limit: int
) -> list[PricedWindow]:
    """What hours or days of a billing period that start after an instant cost, in their order; those that are not
    priced are left out.

    Raises as `rate_windowed` does.
    """
    quantities = dict(usage.of(cut))
    skipped = price.per_window is None or price.per_window.empty is EmptyWindows.SKIP
    wanted = (
        (start, quantities.get(place, ZERO))
        for place, start in window_starts(usage.period, cut.cut, cut.time_zone).items()
        if (place in quantities or not skipped) and (after is None or start > after)
    )
    return [
        PricedWindow(start, quantity, rate_price(price, quantity).amount) for start, quantity in islice(wanted, limit)
    ]


def _added_up(terms: PriceTerms, rated: Iterable[tuple[Decimal, RatedPrice]]) -> list[RatedPart]:
    """The parts of all windows, alike ones as one, in the order in which a window has them."""
    found: dict[_Place, RatedPart] = {}
    for count, each in rated:
        first_discount = len(each.parts) - len(terms.discounts)
        for index, part in enumerate(each.parts):
            discount = index - first_discount if part.kind is PartKind.DISCOUNT else 0
            is_lump = part.kind in _LUMPS or (
                part.kind is PartKind.DISCOUNT and isinstance(terms.discounts[discount], AmountDiscount)
            )
            place = _place(part, discount, is_lump=is_lump)
            found[place] = _plus(found.get(place), part, count, is_lump=is_lump)
    return [found[place] for place in sorted(found, key=_in_order)]


def _place(part: RatedPart, discount: int, *, is_lump: bool) -> _Place:
    unit_amount = ZERO if is_lump else part.unit_amount
    return part.kind, discount, part.from_quantity, part.up_to_quantity, unit_amount, part.per, part.label


def _plus(known: RatedPart | None, part: RatedPart, count: Decimal, *, is_lump: bool) -> RatedPart:
    quantity, flat_amount, amount = count * part.quantity, count * part.flat_amount, count * part.amount
    if known is not None:
        quantity, flat_amount, amount = (
            known.quantity + quantity,
            known.flat_amount + flat_amount,
            known.amount + amount,
        )
    if is_lump:
        return part._replace(unit_amount=amount, amount=amount)
    return part._replace(quantity=quantity, flat_amount=flat_amount, amount=amount)


def _in_order(place: _Place) -> tuple[int, int, Decimal, Decimal]:
    kind, discount, from_quantity, _, unit_amount, _, _ = place
    return _ORDER[kind], discount, ZERO if from_quantity is None else from_quantity, unit_amount
