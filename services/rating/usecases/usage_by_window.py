"""Read what prices of windows and times of day need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from libs.periods import UnknownZone
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage_by_window import MeterCut, WindowQuantity, WindowScope, most_windows, zone_spans
from services.rating.domain.windowed_price import cuts_of
from services.rating.usecases.ports import Work

UsageByCut = Mapping[MeterCut, Sequence[WindowQuantity]]

MAX_WINDOWS = 100_000
"""So many quantities are in memory at a time, or those of one billing period."""


def in_slices(priced: Iterable[tuple[BillingPeriod, Sequence[RateCard]]]) -> Iterator[list[BillingPeriod]]:
    """Billing periods with the cards that price them, cut into slices whose usage by windows may be read at once.

    All of them are one slice unless their prices ask for many windows: those of a year have thousands of hours.
    """
    part: list[BillingPeriod] = []
    total = 0
    for period, cards in priced:
        cuts = {cut for card in cards for cut in cuts_of(card, period.time_zone)}
        count = sum(most_windows(period.period, cut.cut) for cut in cuts)
        if part and total + count > MAX_WINDOWS:
            yield part
            part, total = [], 0
        part.append(period)
        total += count
    if part:
        yield part


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
