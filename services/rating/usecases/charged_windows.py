"""Show the windows behind a charge one by one."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from libs.periods import UnknownZone
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.rate_card import Price
from services.rating.domain.usage_by_window import WindowedUsage, WindowScope, zone_spans
from services.rating.domain.windowed_price import PricedWindow, cut_of, priced_windows
from services.rating.usecases.errors import NotRated
from services.rating.usecases.ports import Work

MAX_WINDOWS = 1_000


class ChargedWindows(NamedTuple):
    """Some windows in their order, and whether others follow."""

    windows: list[PricedWindow]
    more: bool = False


NO_WINDOWS = ChargedWindows([])


async def charged_windows(
    work: Work, period: BillingPeriod, charge: PeriodCharge, after: datetime | None
) -> ChargedWindows:
    """Return what the windows behind a charge cost that start after an instant (None: from the first on).

    There are none unless the price that made the charge is one of windows. They are priced at the usage of now.

    :raises NotRated: if that usage cannot be priced
    """
    price = await _price_of(work, charge)
    if price is None or price.per_window is None:
        return NO_WINDOWS
    cut = cut_of(price, period.time_zone)
    if cut is None:
        return NO_WINDOWS
    try:
        spans = zone_spans(period.period, cut.time_zone)
        scope = WindowScope(period.key.tenant_id, period.customer_id, cut.meter_id, cut.cut, spans)
        usage = WindowedUsage(period.period, period.time_zone, {cut: (await work.usage_by_window.of([scope]))[0]})
        windows = priced_windows(price, cut, usage, after, MAX_WINDOWS + 1)
    except (ArithmeticError, ValueError, UnknownZone) as error:
        message = f"{period.key.subscription_id} cannot be priced: {error}"
        raise NotRated(message, subscriptionId=period.key.subscription_id, problem="PRICING_FAILED") from error
    return ChargedWindows(windows[:MAX_WINDOWS], len(windows) > MAX_WINDOWS)


async def _price_of(work: Work, charge: PeriodCharge) -> Price | None:
    tenant_id = charge.key.tenant_id
    if charge.override_id:
        override = await work.overrides.find(tenant_id, charge.override_id)
        prices = override.prices if override else ()
    else:
        stored = await work.cards.find(tenant_id, charge.rate_card_id, charge.rate_card_version)
        card = stored.card.in_currency(charge.currency) if stored else None
        prices = card.prices if card else ()
    return next((price for price in prices if price.price_id == charge.price_id), None)
