"""Usage priced by its dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from libs.money import exact
from services.rating.domain.prices import ONE, ZERO, Matrix, NegativeQuantity, PricingOptions
from services.rating.domain.rated_price import NegativeQuantityRefused, PartKind, RatedPart, RatedPrice
from services.rating.domain.usage import DimensionedQuantity


def rate_matrix(price: Matrix, usage: Sequence[DimensionedQuantity], options: PricingOptions) -> RatedPrice:
    """One part per row that has usage, in the order of the rows, the default last.

    :raises NegativeQuantityRefused: if a row's quantity is negative and the options refuse that
    :raises decimal.Inexact: if the amount does not fit the context of quantities
    """
    totals: dict[int, Decimal] = {}
    with exact():
        for dimensions, quantity in usage:
            row = _row_of(price, dimensions)
            totals[row] = totals.get(row, ZERO) + quantity
        parts = [_part(price, row, totals[row], options) for row in sorted(totals)]
        return RatedPrice(sum((part.amount for part in parts), ZERO), tuple(parts))


def _part(price: Matrix, row: int, quantity: Decimal, options: PricingOptions) -> RatedPart:
    label = ", ".join(f"{name}={value}" for name, value in price.rows[row].match) if row < len(price.rows) else "other"
    if quantity < 0:
        if options.negative_quantity is NegativeQuantity.ERROR:
            raise NegativeQuantityRefused(f"quantity of {label} must not be negative: {quantity}")
        quantity = ZERO
    unit_amount = price.rows[row].unit_amount if row < len(price.rows) else price.default_unit_amount
    amount = quantity * unit_amount
    return RatedPart(
        PartKind.ROW,
        quantity,
        unit_amount,
        amount if price.per == ONE else amount / price.per,
        per=price.per,
        label=label,
    )


def _row_of(price: Matrix, dimensions: Mapping[str, str]) -> int:
    """The index of the row; that of the default is behind all of them."""
    for row, match in _by_specificity(price):
        if all(dimensions.get(name) == value for name, value in match):
            return row
    return len(price.rows)


@lru_cache(maxsize=1024)
def _by_specificity(price: Matrix) -> list[tuple[int, tuple[tuple[str, str], ...]]]:
    return sorted(((index, row.match) for index, row in enumerate(price.rows)), key=lambda item: -len(item[1]))
