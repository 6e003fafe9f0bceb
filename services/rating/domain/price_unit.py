"""Units that prices are agreed on in instead of money, such as credits, and what one of them costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from libs.errors import Violation
from libs.ids import check_resource_id
from libs.money import exact
from services.rating.domain.number_checks import check_number
from services.rating.domain.rated_price import PartKind, RatedPart, RatedPrice


@dataclass(frozen=True, slots=True)
class PriceUnit:
    """`amount`: what one unit costs, in major units of the rate card's currency, above 0."""

    name: str
    amount: Decimal


def in_currency(rated: RatedPrice, unit: PriceUnit | None) -> RatedPrice:
    """What is due in units as money, exactly. One more part makes the sum of the parts so: it takes the units off and
    adds what they cost.

    :raises decimal.Inexact: if the amount does not fit the context of quantities
    """
    if unit is None:
        return rated
    units = rated.amount
    with exact():
        amount = units * unit.amount
        part = RatedPart(PartKind.PRICE_UNIT, units, unit.amount, amount - units, flat_amount=-units, label=unit.name)
    return RatedPrice(amount, (*rated.parts, part), rated.before_commitment)


def check_price_unit(unit: PriceUnit, path: str) -> Iterator[Violation | None]:
    """What is wrong with a unit by itself."""
    yield check_resource_id(unit.name, f"{path}.name")
    yield check_number(unit.amount, f"{path}.amount", above_zero=True)
