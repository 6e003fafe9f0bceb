"""Charges as they were known at an earlier time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.charges import NO_DIMENSIONS
from services.rating.domain.commitment_term import NO_TERM, committed_periods
from services.rating.domain.exact_usage import ExactUsage, QuantityScope
from services.rating.domain.period_charge import NO_WINDOWS, PeriodCharge, exact_meters, matrix_meters
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import MeterUsage, UsageDigest
from services.rating.domain.windowed_price import cuts_of
from services.rating.usecases.errors import BillingPeriodNotFound, NotKnown, NotRated
from services.rating.usecases.ports import IngestWindows, OpenWork
from services.rating.usecases.rate_periods import card_of, charges_of


class GetKnownCharges:
    """Prices what had been received, by the cards and overrides that had been stored. Stores nothing.

    Nothing is kept for it: ingest's log tells what was known when, and versions of cards never change. The billing
    period, and when an override ends, are taken as they are now.
    """

    def __init__(self, open_work: OpenWork, ingest: IngestWindows) -> None:
        self._open_work = open_work
        self._ingest = ingest

    async def __call__(
        self, tenant_id: str, subscription_id: str, at: datetime, known_at: datetime
    ) -> list[PeriodCharge]:
        """Return the charges of the billing period that contains `at`, in the order of the card, without versions.

        :param known_at: an instant of real time
        :raises BillingPeriodNotFound: if there is no such period
        :raises NotRated: if it could not have been priced then
        :raises NotKnown: if a price needs more than quantities
        :raises ServiceError: if ingest does not answer
        """
        period, card = await self._period(tenant_id, subscription_id, at, known_at)
        usage = await self._usage(period, card, known_at)
        exact = {meter: usage[meter] for meter in exact_meters(card)}
        charges = charges_of(period, card, _as_windows(usage), exact, NO_DIMENSIONS, NO_TERM, NO_WINDOWS)
        if isinstance(charges, RatingProblem):
            raise _not_rated(subscription_id, charges)
        return charges

    async def _period(
        self, tenant_id: str, subscription_id: str, at: datetime, known_at: datetime
    ) -> tuple[BillingPeriod, RateCard]:
        async with self._open_work(tenant_id) as work:
            period = (await work.periods.containing(tenant_id, [(subscription_id, at)]))[0]
            if period is None:
                message = f"{subscription_id} has no billing period that contains {at.isoformat()}"
                raise BillingPeriodNotFound(message, subscriptionId=subscription_id)
            key = (tenant_id, period.rate_card_id)
            versions = (await work.cards.versions({key}, known_at)).get(key, [])
            overrides = (await work.overrides.of_periods([period])).get(period.key, [])
        stored = [override for override in overrides if override.created_at and override.created_at <= known_at]
        card = card_of(period, versions, stored)
        if isinstance(card, RatingProblem):
            raise _not_rated(subscription_id, card)
        if needed := _beyond_quantities(card):
            message = f"{needed} cannot be told as it was known earlier"
            raise NotKnown(message, subscriptionId=subscription_id)
        return period, card

    async def _usage(self, period: BillingPeriod, card: RateCard, known_at: datetime) -> dict[str, ExactUsage]:
        meters = sorted({price.meter_id for price in card.prices if price.meter_id})
        if not meters:
            return {}
        scopes = [QuantityScope(period.customer_id, meter, period.period, period.time_zone) for meter in meters]
        told = await self._ingest.quantities(period.key.tenant_id, scopes, known_at)
        return dict(zip(meters, told, strict=True))


def _beyond_quantities(card: RateCard) -> str:
    """What a card prices by more than the quantities of one billing period, empty if nothing."""
    if matrix_meters(card):
        return "a price by dimensions"
    if committed_periods(card):
        return "a commitment over several billing periods"
    if cuts_of(card, ""):
        return "a price of windows or times of day"
    return ""


def _as_windows(usage: Mapping[str, ExactUsage]) -> dict[str, MeterUsage]:
    return {
        meter_id: MeterUsage(UsageDigest(0, exact.value, exact.event_count, exact.highest_version), "")
        for meter_id, exact in usage.items()
    }


def _not_rated(subscription_id: str, problem: RatingProblem) -> NotRated:
    message = f"{subscription_id} could not have been priced: {problem.description}"
    return NotRated(message, subscriptionId=subscription_id, problem=problem.reason)
