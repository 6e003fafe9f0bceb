"""What a billing period is expected to cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.rating.domain.forecast import Forecast
from services.rating.domain.rate_card import Price


class ForecastLine(NamedTuple):
    """A price at the quantities so far and at the end of the period; amounts in minor units."""

    price: Price
    quantity: Forecast
    so_far: int
    expected: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ForecastedCharges:
    """An estimate made for an instant; lines in the order of the card."""

    as_of: datetime
    currency: str
    lines: Sequence[ForecastLine]
