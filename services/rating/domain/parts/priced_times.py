"""Windows with a price, and a commitment, of their own time of day. (One price for all windows is `per_window`.)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from libs.money import exact
from services.rating.domain.pipeline import rate_price
from services.rating.domain.prices import ONE, ZERO
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import PartKind, RatedPrice


@dataclass(frozen=True, slots=True)
class PricedTime:
    """A price for windows that start at a local time from `start` up to, not including, `end`; it may go over midnight,
    and with both alike it is the whole day."""

    start: time
    end: time
    price: Price

    def holds(self, local: time) -> bool:
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


class Window(NamedTuple):
    start: datetime
    quantity: Decimal


class CommittedWindow(NamedTuple):
    """What a window costs: up to its commitment, above it, and what is missing to it."""

    within: Decimal
    overage: Decimal
    true_up: Decimal

    @property
    def total(self) -> Decimal:
        with exact():
            return self.within + self.overage + self.true_up


def rate_windows(
    windows: Sequence[Window], zone: ZoneInfo, price: Price | None, times: Sequence[PricedTime]
) -> list[CommittedWindow]:
    """Price windows, each by the first time of day that holds its local start, else by `price`.

    :raises ValueError: if nothing prices a window
    """
    return [_committed(_price_at(window.start, zone, price, times), window.quantity) for window in windows]


def _price_at(start: datetime, zone: ZoneInfo, price: Price | None, times: Sequence[PricedTime]) -> Price:
    local = start.astimezone(zone).time()
    chosen = next((candidate.price for candidate in times if candidate.holds(local)), price)
    if chosen is None:
        raise ValueError(f"nothing prices {local}")
    return chosen


def _committed(price: Price, quantity: Decimal) -> CommittedWindow:
    rated = rate_price(price, quantity)
    factor = price.terms.commitment.overage_factor if price.terms.commitment else ONE
    with exact():
        true_up = sum((part.amount for part in rated.parts if part.kind is PartKind.TRUE_UP), ZERO)
        overage = _above(rated) * factor
        return CommittedWindow(rated.amount - true_up - overage, overage, true_up)


def _above(rated: RatedPrice) -> Decimal:
    return sum((part.quantity for part in rated.parts if part.kind is PartKind.OVERAGE), ZERO)
