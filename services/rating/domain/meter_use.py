"""Whether the meters of a card can be priced as it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from libs.errors import Violation
from services.rating.domain.prices import Matrix, TimeOfDay
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import MeterFacts


def meter_violations(card: RateCard, facts: Mapping[str, MeterFacts]) -> list[Violation]:
    """Everything wrong with how a card uses meters; `facts` has those that exist."""
    return [
        violation
        for index, price in enumerate(card.prices)
        if price.meter_id is not None
        for violation in _of_price(price, facts.get(price.meter_id), f"prices[{index}]")
    ]


def _of_price(price: Price, meter: MeterFacts | None, path: str) -> Iterator[Violation]:
    if meter is None:
        yield Violation(f"{path}.meter_id", "METER_UNKNOWN", f"there is no meter {price.meter_id}")
        return
    if not meter.additive and (price.per_window is not None or isinstance(price.model, TimeOfDay)):
        description = f"the windows of meter {price.meter_id} do not add up to its quantity"
        yield Violation(f"{path}.meter_id", "METER_NOT_ADDITIVE", description)
    if not isinstance(price.model, Matrix):
        return
    if not meter.additive:
        description = f"the dimensions of meter {price.meter_id} do not add up to its quantity"
        yield Violation(f"{path}.meter_id", "METER_NOT_ADDITIVE", description)
    for index, row in enumerate(price.model.rows):
        for name in sorted({name for name, _ in row.match} - meter.dimensions):
            description = f"meter {price.meter_id} has no dimension {name!r}"
            yield Violation(f"{path}.matrix.rows[{index}].match", "UNKNOWN_DIMENSION", description)
