"""Estimate what a billing period will cost at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from libs.money import round_to_minor
from libs.periods import UnknownZone
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.charges import rate_card_charges
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.exact_usage import QuantityScope, Questions
from services.rating.domain.forecast import Forecast, as_now, forecast, scaled
from services.rating.domain.forecasted_charges import ForecastedCharges, ForecastLine
from services.rating.domain.period_charge import NO_WINDOWS, exact_meters, matrix_meters
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity
from services.rating.domain.usage_by_window import MeterCut, WindowedUsage, WindowQuantity
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.commitment_terms import read_terms
from services.rating.usecases.errors import BillingPeriodNotFound, NotRated
from services.rating.usecases.ports import OpenWork
from services.rating.usecases.rate_periods import PRICING_FAILED, USAGE_UNAVAILABLE, card_of
from services.rating.usecases.usage_by_window import UsageByCut, read_usage_by_window

PRICE_PER_WINDOW = "PRICE_PER_WINDOW"

NOTHING = as_now(Decimal(1))
"""Of a price without a meter."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """What was used so far, by meter."""

    forecasts: Mapping[str, Forecast]
    event_counts: Mapping[str, int]
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]]
    so_far: Mapping[str, TermSoFar]
    by_cut: UsageByCut

    def amounts(self, card: RateCard, period: BillingPeriod, of: Mapping[str, Decimal]) -> list[int]:
        """Price quantities; numbers of events, dimensions and times of day are taken to grow with them."""
        counts, dimensions = dict[str, int](), dict[str, list[DimensionedQuantity]]()
        for meter_id, quantity in of.items():
            so_far = self.forecasts[meter_id].so_far
            counts[meter_id] = int(scaled(Decimal(self.event_counts.get(meter_id, 0)), quantity, so_far).to_integral())
            dimensions[meter_id] = [
                part._replace(quantity=scaled(part.quantity, quantity, so_far))
                for part in self.by_dimensions.get(meter_id, ())
            ]
        by_cut: dict[MeterCut, Sequence[WindowQuantity]] = {
            cut: [
                WindowQuantity(place, scaled(part, of[cut.meter_id], self.forecasts[cut.meter_id].so_far))
                for place, part in quantities
            ]
            for cut, quantities in self.by_cut.items()
        }
        windowed = WindowedUsage(period.period, period.time_zone, by_cut)
        charges = rate_card_charges(card, of, counts, dimensions, period.shortened, self.so_far, windowed)
        return [
            round_to_minor(charge.amount, card.currency, charge.price.rounding_mode).minor_units for charge in charges
        ]


class ForecastCharges:
    """Estimates quantities and prices them as usage is priced. Stores nothing."""

    def __init__(self, open_work: OpenWork, ask_quantities: AskQuantities) -> None:
        self._open_work = open_work
        self._ask_quantities = ask_quantities

    async def __call__(self, tenant_id: str, subscription_id: str, at: datetime, as_of: datetime) -> ForecastedCharges:
        """Return the estimate for the billing period of a subscription that contains `at`.

        :param as_of: everything that was used before it is known
        :raises BillingPeriodNotFound: if there is no such period
        :raises NotRated: if it cannot be priced at present
        """
        period, card = await self._period(tenant_id, subscription_id, at)
        usage = await self._usage(period, card, as_of)
        try:
            so_far, expected, low, high = (
                usage.amounts(card, period, {meter_id: pick(found) for meter_id, found in usage.forecasts.items()})
                for pick in (_so_far, _expected, _low, _high)
            )
        except (ArithmeticError, ValueError, UnknownZone) as error:
            raise _not_rated(subscription_id, PRICING_FAILED, str(error)) from error
        lines = [
            ForecastLine(
                price,
                usage.forecasts[price.meter_id] if price.meter_id else NOTHING,
                so_far[index],
                expected[index],
                min(expected[index], low[index], high[index]),
                max(expected[index], low[index], high[index]),
            )
            for index, price in enumerate(card.prices)
        ]
        return ForecastedCharges(as_of, card.currency, lines)

    async def _period(self, tenant_id: str, subscription_id: str, at: datetime) -> tuple[BillingPeriod, RateCard]:
        async with self._open_work(tenant_id) as work:
            period = (await work.periods.containing(tenant_id, [(subscription_id, at)]))[0]
            if period is None:
                message = f"{subscription_id} has no billing period that contains {at.isoformat()}"
                raise BillingPeriodNotFound(message, subscriptionId=subscription_id)
            key = (tenant_id, period.rate_card_id)
            versions, overrides = await work.cards.versions({key}), await work.overrides.of_periods([period])
        card = card_of(period, versions.get(key, []), overrides.get(period.key, ()))
        if isinstance(card, RatingProblem):
            raise _not_rated(subscription_id, card.reason, card.description)
        if per_window := [price.price_id for price in card.prices if price.per_window is not None]:
            description = f"how the usage to come spreads over windows is not known: {', '.join(per_window)}"
            raise _not_rated(subscription_id, PRICE_PER_WINDOW, description)
        return period, card

    async def _usage(self, period: BillingPeriod, card: RateCard, as_of: datetime) -> _Usage:
        asked = exact_meters(card)
        additive = sorted({price.meter_id for price in card.prices if price.meter_id} - asked)
        told = await self._exact(period, sorted(asked)) if asked else {}
        async with self._open_work(period.key.tenant_id) as work:
            usage = (await work.usage.of_periods([period.key]))[period.key]
            days = await work.usage.explain(period, additive)
            split = sorted(matrix_meters(card))
            by_dimensions = (await work.dimensions.of_windows([period.key], split))[period.key] if split else {}
            terms = await read_terms(work, {period.key: card})
            by_cut = (await read_usage_by_window(work, [(period, card)])).get(period.key, NO_WINDOWS)
        forecasts = {meter_id: forecast(period.period, days[meter_id], as_of) for meter_id in additive}
        forecasts |= {meter_id: as_now(quantity) for meter_id, quantity in told.items()}
        counts = {meter_id: meter.digest.event_count for meter_id, meter in usage.items()}
        return _Usage(forecasts, counts, by_dimensions, terms.so_far(period.key), by_cut)

    async def _exact(self, period: BillingPeriod, meter_ids: Sequence[str]) -> dict[str, Decimal]:
        scopes = [
            QuantityScope(period.customer_id, meter_id, period.period, period.time_zone) for meter_id in meter_ids
        ]
        answers = await self._ask_quantities(Questions(0, {period.key: scopes}))
        told = {scope.meter_id: exact.value for (_, scope), exact in answers.told.items()}
        if missing := [meter_id for meter_id in meter_ids if meter_id not in told]:
            description = f"ingest has not told the quantity of {', '.join(missing)}"
            raise _not_rated(period.key.subscription_id, USAGE_UNAVAILABLE, description)
        return told


def _so_far(quantity: Forecast) -> Decimal:
    return quantity.so_far


def _expected(quantity: Forecast) -> Decimal:
    return quantity.expected


def _low(quantity: Forecast) -> Decimal:
    return quantity.low


def _high(quantity: Forecast) -> Decimal:
    return quantity.high


def _not_rated(subscription_id: str, reason: str, description: str) -> NotRated:
    return NotRated(
        f"{subscription_id} cannot be priced: {description}", subscriptionId=subscription_id, problem=reason
    )
