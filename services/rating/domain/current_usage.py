"""The usage of a billing period, put together from its windows as ingest has them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from libs.money import exact
from libs.periods import UnknownZone
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.period_charge import matrix_meters
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, MeterUsage, UsageDigest, WindowRow
from services.rating.domain.usage_by_window import MeterCut, WindowQuantity, place_at
from services.rating.domain.windowed_price import cuts_of

_ZERO = Decimal(0)


class CurrentUsage(NamedTuple):
    """What prices of any kind need of the usage of a billing period; all of it adds up to the same."""

    by_meter: Mapping[str, MeterUsage]
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]]
    by_cut: Mapping[MeterCut, Sequence[WindowQuantity]]


def needs_windows(card: RateCard) -> bool:
    """Whether a card has prices that need more of the usage than the quantities of the billing period."""
    return bool(matrix_meters(card) or cuts_of(card, ""))


def usage_of_windows(rows: Collection[WindowRow], card: RateCard, period: BillingPeriod) -> CurrentUsage:
    """Add up the windows of the customer in the period as the prices of the card need it.

    Cuts in zones that are not known here are left out.
    """
    of_meters: defaultdict[str, list[WindowRow]] = defaultdict(list)
    for row in rows:
        of_meters[row.meter_id].append(row)
    with exact():
        return CurrentUsage(
            {meter_id: MeterUsage(_digest(own), "") for meter_id, own in of_meters.items()},
            {meter_id: _by_dimensions(of_meters[meter_id]) for meter_id in matrix_meters(card) & of_meters.keys()},
            _by_cut(of_meters, cuts_of(card, period.time_zone), period),
        )


def _digest(rows: Sequence[WindowRow]) -> UsageDigest:
    return UsageDigest(
        len(rows),
        sum((Decimal(row.value) for row in rows), _ZERO),
        sum(row.event_count for row in rows),
        max(row.version for row in rows),
    )


def _by_dimensions(rows: Iterable[WindowRow]) -> list[DimensionedQuantity]:
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[row.dimensions] += Decimal(row.value)
    return [DimensionedQuantity(json.loads(dimensions), sums[dimensions]) for dimensions in sorted(sums)]


def _by_cut(
    of_meters: Mapping[str, Sequence[WindowRow]], cuts: Iterable[MeterCut], period: BillingPeriod
) -> dict[MeterCut, list[WindowQuantity]]:
    found: dict[MeterCut, list[WindowQuantity]] = {}
    for cut in cuts:
        sums: defaultdict[int, Decimal] = defaultdict(Decimal)
        try:
            for row in of_meters.get(cut.meter_id, ()):
                at = datetime.fromtimestamp(row.start_s, UTC)
                sums[place_at(at, period.period, cut.cut, cut.time_zone)] += Decimal(row.value)
        except UnknownZone:
            continue  # Which its prices then tell.
        found[cut] = [WindowQuantity(*item) for item in sorted(sums.items())]
    return found
