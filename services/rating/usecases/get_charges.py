"""Read charges, explain one, and price hypothetical usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from libs.errors import InvalidInput
from libs.money import exact
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.charges import Charge, rate_card_charges
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.place_in_term import NO_PLACES, PlaceInTerm, terms_so_far
from services.rating.domain.proration import PartOfPeriod
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, ExplainedUsage
from services.rating.domain.windowed_price import cut_of
from services.rating.usecases.charged_windows import NO_WINDOWS, ChargedWindows, charged_windows
from services.rating.usecases.create_rate_card import GetRateCards
from services.rating.usecases.errors import BillingPeriodNotFound, ChargeNotFound
from services.rating.usecases.ports import OpenWork, Work


@dataclass(frozen=True, slots=True)
class ExplainedCharge:
    """A charge and the usage behind it, by UTC day, and by window if that is how it is priced."""

    charge: PeriodCharge
    usage: list[ExplainedUsage]
    windows: ChargedWindows = NO_WINDOWS


class GetCharges:
    """Reads the charges of the billing period of a subscription that contains an instant."""

    def __init__(self, open_work: OpenWork) -> None:
        self._open_work = open_work

    async def of_period(self, tenant_id: str, subscription_id: str, at: datetime) -> list[PeriodCharge]:
        """Return the current charges in the order of the card.

        :raises BillingPeriodNotFound: if there is no such period
        """
        async with self._open_work(tenant_id) as work:
            period = await _period(work, tenant_id, subscription_id, at)
            return (await work.charges.of_periods([period.key]))[period.key]

    async def explain(
        self,
        tenant_id: str,
        subscription_id: str,
        at: datetime,
        price_id: str,
        *,
        windows_after: datetime | None = None,
    ) -> ExplainedCharge:
        """Return one charge with its usage, and the windows after an instant if it is a charge of windows.

        :raises ChargeNotFound: if there is no such period, or no such charge in it
        :raises NotRated: if the usage of now cannot be priced by windows
        """
        async with self._open_work(tenant_id) as work:
            try:
                period = await _period(work, tenant_id, subscription_id, at)
            except BillingPeriodNotFound as error:
                raise ChargeNotFound(error.message, subscriptionId=subscription_id) from error
            charges = (await work.charges.of_periods([period.key]))[period.key]
            charge = next((charge for charge in charges if charge.price_id == price_id), None)
            if charge is None:
                message = f"{subscription_id} has no charge for price {price_id} in that period"
                raise ChargeNotFound(message, subscriptionId=subscription_id, priceId=price_id)
            if not charge.meter_id or charge.withdrawn:
                return ExplainedCharge(charge, [])
            days = (await work.usage.explain(period, [charge.meter_id]))[charge.meter_id]
            if charge.meter_id in (await work.exact_usage.of_periods([period.key]))[period.key]:
                days = [replace(day, quantity=None) for day in days]
            return ExplainedCharge(charge, days, await charged_windows(work, period, charge, windows_after))


class PreviewCharge:
    """Prices quantities with the function that live rating uses. Stores nothing."""

    def __init__(self, get_rate_cards: GetRateCards) -> None:
        self._get_rate_cards = get_rate_cards

    async def __call__(
        self,
        tenant_id: str,
        rate_card_id: str,
        version: int,
        quantities: Mapping[str, Decimal],
        event_counts: Mapping[str, int],
        by_dimensions: Mapping[str, Sequence[DimensionedQuantity]],
        shortened: PartOfPeriod | None = None,
        terms: Mapping[str, PlaceInTerm] = NO_PLACES,
        currency: str = "",
    ) -> tuple[RateCard, tuple[Charge, ...]]:
        """Return the card and what the quantities and numbers of events (by meter) cost; the newest version for 0.

        What is given by dimensions is added to the quantity of its meter. `shortened`: they are those of a part of a
        billing period. `terms`: by price, which one of the term of its commitment it is; the first one if left out.
        `currency`: empty for that of the card's `prices`.

        :raises RateCardNotFound: if there is no such card
        :raises InvalidInput: if a price of it depends on when usage happened, if it has no prices in the currency, or
            naming what is wrong with `terms`
        """
        found = (await self._get_rate_cards.get(tenant_id, rate_card_id, version)).card
        card = found.in_currency(currency)
        if card is None:
            description = f"{rate_card_id} has prices in {', '.join(found.currencies)}"
            raise InvalidInput.of("currency", "CURRENCY_NOT_ON_CARD", description)
        if by_window := [price.price_id for price in card.prices if cut_of(price, "UTC")]:
            description = f"what {', '.join(by_window)} cost depends on when usage happens: simulate the card instead"
            raise InvalidInput.of("rate_card_id", "PRICED_BY_WINDOW", description)
        so_far = terms_so_far(card, terms)
        totals = dict(quantities)
        with exact():
            for meter_id, parts in by_dimensions.items():
                totals[meter_id] = sum((quantity for _, quantity in parts), totals.get(meter_id, Decimal(0)))
        # The rest of a quantity has no dimensions.
        split = {
            meter_id: [*by_dimensions.get(meter_id, ()), DimensionedQuantity({}, quantities[meter_id])]
            if meter_id in quantities
            else by_dimensions[meter_id]
            for meter_id in totals
        }
        return card, rate_card_charges(card, totals, event_counts, split, shortened, so_far)


async def _period(work: Work, tenant_id: str, subscription_id: str, at: datetime) -> BillingPeriod:
    period = (await work.periods.containing(tenant_id, [(subscription_id, at)]))[0]
    if period is None:
        message = f"{subscription_id} has no billing period that contains {at.isoformat()}"
        raise BillingPeriodNotFound(message, subscriptionId=subscription_id)
    return period
