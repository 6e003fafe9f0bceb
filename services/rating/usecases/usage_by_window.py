"""Read what prices of windows and times of day need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from libs.periods import UnknownZone
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage_by_window import MeterCut, WindowQuantity, WindowScope, zone_spans
from services.rating.domain.windowed_price import cuts_of
from services.rating.usecases.ports import Work

UsageByCut = Mapping[MeterCut, Sequence[WindowQuantity]]


async def read_usage_by_window(
    work: Work, priced: Iterable[tuple[BillingPeriod, RateCard]]
) -> dict[PeriodKey, UsageByCut]:
    """Return the usage of billing periods as the prices of their cards cut it; a period may come with several cards.

    Periods of which no price asks are left out, and so are cuts in zones that are not known here.
    """
    scopes: dict[tuple[PeriodKey, MeterCut], WindowScope] = {}
    for period, card in priced:
        for cut in cuts_of(card, period.time_zone):
            try:
                spans = zone_spans(period.period, cut.time_zone)
            except UnknownZone:
                continue  # Only this period cannot be priced, which its prices then tell.
            tenant_id, customer_id = period.key.tenant_id, period.customer_id
            scopes[period.key, cut] = WindowScope(tenant_id, customer_id, cut.meter_id, cut.cut, spans)
    found: dict[PeriodKey, dict[MeterCut, Sequence[WindowQuantity]]] = {}
    if scopes:
        for (key, cut), quantities in zip(scopes, await work.usage_by_window.of(list(scopes.values())), strict=True):
            found.setdefault(key, {})[cut] = quantities
    return dict(found)
