"""A rate card: the prices of one agreement, in one currency or several, by version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from libs.money import RoundingMode
from services.rating.domain.price_terms import NO_TERMS, PriceTerms
from services.rating.domain.prices import DEFAULT_OPTIONS, ZERO, AnyPriceModel, PricingOptions, WindowPricing
from services.rating.domain.proration import Proration


@dataclass(frozen=True, slots=True)
class Price:
    """One line of an invoice: how the quantity of a meter in a billing period becomes an amount.

    `price_id` names the line and is unique in its card. `meter_id` is None for `Flat` and `LinesBefore` only.
    `exact_usage`: the meter's usage windows do not add up to the quantity of a billing period, ingest is asked for it.
    `included_quantity` is free and comes off before the model is applied. `terms` act before and after that.
    `proration` says what share of its flat amount, included quantity, minimum, maximum and commitment is for a billing
    period that is shorter than the whole one. `rounding_mode` is for the line item; pricing itself never rounds money.
    `override_id` names the override that the price comes from, and is empty for the card's own.
    `per_window`: all of it is agreed on for an hour or a day, not for a billing period.
    """

    price_id: str
    model: AnyPriceModel
    meter_id: str | None = None
    included_quantity: Decimal = ZERO
    rounding_mode: RoundingMode = RoundingMode.HALF_EVEN
    display_name: str = ""
    exact_usage: bool = False
    terms: PriceTerms = NO_TERMS
    options: PricingOptions = DEFAULT_OPTIONS
    proration: Proration = Proration.NONE
    override_id: str = ""
    per_window: WindowPricing | None = None


@dataclass(frozen=True, slots=True)
class CurrencyPrices:
    """The prices of a card with amounts in another currency; alike in everything else."""

    currency: str
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class RateCard:
    """One version of a card; a version never changes.

    It prices the billing periods that start at or after `effective_at` (UTC; None: always), until the next version's.
    `prices` are in `currency`.
    """

    rate_card_id: str
    version: int
    currency: str
    effective_at: datetime | None
    prices: tuple[Price, ...]
    display_name: str = ""
    further_currencies: tuple[CurrencyPrices, ...] = ()

    @property
    def currencies(self) -> list[str]:
        """In which there are prices, that of `prices` first."""
        return [self.currency, *(further.currency for further in self.further_currencies)]

    def in_currency(self, currency: str) -> RateCard | None:
        """Return the card with the prices of one currency only, empty for that of `prices`; None if it has none."""
        if currency in ("", self.currency):
            return replace(self, further_currencies=()) if self.further_currencies else self
        for further in self.further_currencies:
            if further.currency == currency:
                return replace(self, currency=currency, prices=further.prices, further_currencies=())
        return None
