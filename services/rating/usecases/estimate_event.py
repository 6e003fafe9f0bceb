"""Tell what one event would cost now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.charges import NO_DIMENSIONS
from services.rating.domain.estimate import (
    EstimatedPeriod,
    MeasuredEvent,
    MeasuredQuantity,
    dimensions_with,
    estimated_lines,
    usage_with,
)
from services.rating.domain.period_charge import exact_meters, matrix_meters
from services.rating.domain.queue import RatingProblem
from services.rating.usecases.ports import OpenWork, Work
from services.rating.usecases.rate_periods import DIMENSIONS_DIFFER, USAGE_UNAVAILABLE, card_of, charges_of

_TRIES = 3
"""Usage that flows meanwhile may make two readings differ."""


class EventMeasuring(Protocol):
    """Ingest's meters. Nothing calls it inside a transaction."""

    async def measure(self, tenant_id: str, event: bytes) -> MeasuredEvent:
        """Return what would be measured in an event, given encoded.

        :raises InvalidInput: if it would be rejected
        :raises ServiceError: if ingest does not answer
        """


class PassedWatermark(Protocol):
    """How far charges have come."""

    async def __call__(self, tenant_id: str) -> datetime | None:
        """Return an instant before which all acknowledged usage of the tenant is rated; None if none is known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an event would measure and cost; `watermark`: usage acknowledged before it is contained."""

    quantities: Sequence[MeasuredQuantity]
    periods: Sequence[EstimatedPeriod]
    watermark: datetime | None


class EstimateEvent:
    """Prices a billing period without and with an event, by the function that rates. Stores nothing."""

    def __init__(self, open_work: OpenWork, measuring: EventMeasuring, passed_watermark: PassedWatermark) -> None:
        self._open_work = open_work
        self._measuring = measuring
        self._passed_watermark = passed_watermark

    async def __call__(self, tenant_id: str, customer_id: str, event: bytes) -> Estimate:
        """Return the estimate for an event of that customer.

        :raises InvalidInput: if the event would be rejected
        :raises ServiceError: if ingest does not answer
        """
        measured = await self._measuring.measure(tenant_id, event)
        # Before usage is read: what the watermark covers is committed then.
        watermark = await self._passed_watermark(tenant_id)
        async with self._open_work(tenant_id) as work:
            periods = await work.customer_periods.containing(tenant_id, customer_id, measured.window_start)
            estimated = [await _estimate(work, period, measured) for period in periods]
        return Estimate(measured.quantities, estimated, watermark)


async def _estimate(work: Work, period: BillingPeriod, event: MeasuredEvent) -> EstimatedPeriod:
    key = (period.key.tenant_id, period.rate_card_id)
    versions, overrides = await work.cards.versions({key}), await work.overrides.of_periods([period])
    card = card_of(period, versions.get(key, []), overrides.get(period.key, ()))
    if isinstance(card, RatingProblem):
        return EstimatedPeriod(period, problem=card)
    told = (await work.exact_usage.of_periods([period.key]))[period.key]
    if missing := exact_meters(card) - told.keys():
        description = f"ingest has not told the quantity of {', '.join(sorted(missing))}"
        return EstimatedPeriod(period, card, problem=RatingProblem(USAGE_UNAVAILABLE, description))
    split = matrix_meters(card)
    for left in reversed(range(_TRIES)):
        usage = (await work.usage.of_periods([period.key]))[period.key]
        found = (await work.dimensions.of_periods([period.key]))[period.key] if split else NO_DIMENSIONS
        before = charges_of(period, card, usage, told, found)
        if not (left and isinstance(before, RatingProblem) and before.reason == DIMENSIONS_DIFFER):
            break
    if isinstance(before, RatingProblem):
        return EstimatedPeriod(period, card, problem=before)
    after = charges_of(period, card, usage_with(usage, event), told, dimensions_with(found, event, split))
    if isinstance(after, RatingProblem):
        return EstimatedPeriod(period, card, problem=after)
    return EstimatedPeriod(period, card, estimated_lines(card, event, before, after))
