"""What one more event adds to the charges of a billing period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from libs.money import exact
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.period_charge import PeriodCharge, exact_meters
from services.rating.domain.prices import LinesBefore
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, MeterUsage, UsageDigest
from services.rating.domain.usage_by_window import MeterCut, WindowQuantity, place_at

_NOTHING = MeterUsage(UsageDigest(0, Decimal(0), 0, 0), "")


class MeasuredQuantity(NamedTuple):
    """What a meter measures in the event; `additive`: quantities of billing periods are sums of such values."""

    meter_id: str
    quantity: Decimal
    unit: str
    dimensions: Mapping[str, str]
    additive: bool


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """What all meters measure in an event that counts for a customer in the usage window that starts then."""

    window_start: datetime
    quantities: Sequence[MeasuredQuantity]

    @property
    def adding(self) -> dict[str, MeasuredQuantity]:
        """Those that add up, by meter."""
        return {measured.meter_id: measured for measured in self.quantities if measured.additive}


class NotEstimable(StrEnum):
    """Why the amount of a line with the event is not known."""

    NOT_ADDITIVE = "NOT_ADDITIVE"
    """The quantity of its meter is not the sum of what is measured in events."""
    OTHER_LINE = "OTHER_LINE"
    """It depends on a line that cannot be estimated."""


class EstimatedLine(NamedTuple):
    """A charge without the event and with it, or why the latter is not known."""

    before: PeriodCharge
    after: PeriodCharge | NotEstimable

    @property
    def marginal(self) -> Decimal | None:
        """What the event adds, exact; None if it is not known."""
        if isinstance(self.after, NotEstimable):
            return None
        with exact():
            return self.after.amount - self.before.amount


@dataclass(frozen=True, slots=True)
class EstimatedPeriod:
    """A billing period: its lines that the event may change, in the order of the card, or why it has no price."""

    period: BillingPeriod
    card: RateCard | None = None
    lines: Sequence[EstimatedLine] = ()
    problem: RatingProblem | None = None

    @property
    def marginal(self) -> Decimal | None:
        """What the event adds to all lines; None if that of one is not known."""
        found = [line.marginal for line in self.lines]
        known = [amount for amount in found if amount is not None]
        if self.card is None or len(known) < len(found):
            return None
        with exact():
            return sum(known, Decimal(0))


def usage_with(usage: Mapping[str, MeterUsage], event: MeasuredEvent) -> dict[str, MeterUsage]:
    """Return the usage of a billing period with what adds up of the event."""
    found = dict(usage)
    for meter_id, measured in event.adding.items():
        known = found.get(meter_id, _NOTHING)
        with exact():
            digest = known.digest._replace(
                value=known.digest.value + measured.quantity, event_count=known.digest.event_count + 1
            )
        found[meter_id] = known._replace(digest=digest)
    return found


def dimensions_with(
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]], event: MeasuredEvent, meters: AbstractSet[str]
) -> dict[str, Sequence[DimensionedQuantity]]:
    """Return the quantities by dimensions, of meters that are priced so, with what adds up of the event."""
    found = dict(by_dimensions)
    for meter_id, measured in event.adding.items():
        if meter_id in meters:
            known = found.get(meter_id, ())
            with exact():
                same = sum((part.quantity for part in known if part.dimensions == measured.dimensions), Decimal(0))
                part = DimensionedQuantity(measured.dimensions, same + measured.quantity)
            found[meter_id] = [*(other for other in known if other.dimensions != measured.dimensions), part]
    return found


def windows_with(
    by_cut: Mapping[MeterCut, Sequence[WindowQuantity]], event: MeasuredEvent, period: BillingPeriod
) -> dict[MeterCut, Sequence[WindowQuantity]]:
    """Return the quantities by windows of a billing period with what adds up of the event, which lies in it."""
    found = dict(by_cut)
    for cut, known in by_cut.items():
        if (measured := event.adding.get(cut.meter_id)) is not None:
            quantities = dict(known)
            place = place_at(event.window_start, period.period, cut.cut, cut.time_zone)
            with exact():
                quantities[place] = quantities.get(place, Decimal(0)) + measured.quantity
            found[cut] = [WindowQuantity(*item) for item in sorted(quantities.items())]
    return found


def estimated_lines(
    card: RateCard, event: MeasuredEvent, before: Sequence[PeriodCharge], after: Sequence[PeriodCharge]
) -> list[EstimatedLine]:
    """Return the lines that the event may change, from the charges of all prices of the card without and with it."""
    measured = {quantity.meter_id for quantity in event.quantities}
    unknown = measured - event.adding.keys() | measured & exact_meters(card)
    lines: list[EstimatedLine] = []
    is_known = True
    for price, charge, changed in zip(card.prices, before, after, strict=True):
        if isinstance(price.model, LinesBefore):
            lines.append(EstimatedLine(charge, changed if is_known else NotEstimable.OTHER_LINE))
        elif price.meter_id in unknown:
            lines.append(EstimatedLine(charge, NotEstimable.NOT_ADDITIVE))
            is_known = False
        elif price.meter_id in measured:
            lines.append(EstimatedLine(charge, changed))
    return lines
