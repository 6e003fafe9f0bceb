"""Usage priced by the local time at which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from libs.money import exact
from services.rating.domain.prices import ONE, ZERO, NegativeQuantity, PricingOptions, TimeOfDay
from services.rating.domain.rated_price import NegativeQuantityRefused, PartKind, RatedPart, RatedPrice
from services.rating.domain.usage_by_window import WEEK_MINUTES, WindowQuantity

DAY_MINUTES = 1_440
GRID_MINUTES = 15
"""Usage is known by windows of this length, which begin at its multiples in every zone."""


def rate_time_of_day(price: TimeOfDay, usage: Sequence[WindowQuantity], options: PricingOptions) -> RatedPrice:
    """One part per band that has usage, in the order of the bands, what none of them holds last.

    :param usage: quantities by minutes of the local week
    :raises NegativeQuantityRefused: if a band's quantity is negative and the options refuse that
    :raises decimal.Inexact: if the amount does not fit the context of quantities
    """
    totals: dict[int, Decimal] = {}
    bands = _bands_of_week(price)
    with exact():
        for minute, quantity in usage:
            band = bands[minute // GRID_MINUTES]
            totals[band] = totals.get(band, ZERO) + quantity
        parts = [_part(price, band, totals[band], options) for band in sorted(totals)]
        return RatedPrice(sum((part.amount for part in parts), ZERO), tuple(parts))


def _part(price: TimeOfDay, index: int, quantity: Decimal, options: PricingOptions) -> RatedPart:
    band = price.bands[index] if index < len(price.bands) else None
    label, unit_amount = (band.label, band.unit_amount) if band else ("other", price.default_unit_amount)
    if quantity < 0:
        if options.negative_quantity is NegativeQuantity.ERROR:
            raise NegativeQuantityRefused(f"quantity of {label} must not be negative: {quantity}")
        quantity = ZERO
    amount = quantity * unit_amount
    if price.per != ONE:
        amount /= price.per
    return RatedPart(PartKind.BAND, quantity, unit_amount, amount, per=price.per, label=label)


@lru_cache(maxsize=256)
def _bands_of_week(price: TimeOfDay) -> tuple[int, ...]:
    """For each quarter of an hour of a week the index of its band; that of the default is behind all of them."""
    return tuple(_band_at(price, *divmod(minute, DAY_MINUTES)) for minute in range(0, WEEK_MINUTES, GRID_MINUTES))


def _band_at(price: TimeOfDay, day: int, minute: int) -> int:
    holding = (index for index, band in enumerate(price.bands) if band.holds(day, minute))
    return next(holding, len(price.bands))
