"""Charges as rating publishes them: exact, not rounded, replaced by higher versions.

Thousands arrive in a second, hence named tuples: they are made, hashed, compared and turned into columns in C.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from libs.money import RoundingMode


class PeriodKey(NamedTuple):
    """Names a billing period of a subscription of a known tenant."""

    subscription_id: str
    period_start: datetime

    def __str__(self) -> str:
        return f"{self.subscription_id}|{self.period_start.isoformat()}"

    @classmethod
    def parse(cls, text: str) -> PeriodKey:
        """The key that `str()` wrote; subscription ids hold no bar.

        :raises ValueError: if the text is no such key
        """
        subscription_id, _, period_start = text.partition("|")
        return cls(subscription_id, datetime.fromisoformat(period_start))


class ChargePart(NamedTuple):
    """One step of a charge's breakdown, shown as rating wrote it: decimal texts, empty where there is none."""

    kind: str
    from_quantity: str
    up_to_quantity: str
    quantity: str
    unit_amount: str
    flat_amount: str
    amount: str
    per: str = ""
    label: str = ""


class Charge(NamedTuple):
    """The priced usage of one price in one billing period; `amount` exact in major units of `currency`."""

    key: PeriodKey
    customer_id: str
    price_id: str
    display_name: str
    meter_id: str
    position: int
    currency: str
    quantity: Decimal
    amount: Decimal
    rounding_mode: RoundingMode
    rate_card_id: str
    rate_card_version: int
    engine_version: str
    parts: tuple[ChargePart, ...]
    version: int
    trace_parent: str


def newest(charges: Iterable[Charge]) -> dict[tuple[PeriodKey, str], Charge]:
    """The charge with the highest version per period and price, whatever the order of arrival."""
    kept: dict[tuple[PeriodKey, str], Charge] = {}
    for charge in charges:
        item = (charge.key, charge.price_id)
        if item not in kept or charge.version > kept[item].version:
            kept[item] = charge
    return kept
