"""Tell what one event would cost now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.estimate import (
    EstimatedPeriod,
    MeasuredEvent,
    MeasuredQuantity,
    dimensions_with,
    estimated_lines,
    usage_with,
    windows_with,
)
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.period_charge import NO_WINDOWS, exact_meters, matrix_meters
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, MeterUsage
from services.rating.usecases.commitment_terms import read_terms
from services.rating.usecases.ports import OpenWork, Work
from services.rating.usecases.rate_periods import DIMENSIONS_DIFFER, USAGE_UNAVAILABLE, cards_of, charges_of
from services.rating.usecases.usage_by_window import UsageByCut, read_usage_by_window

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
            cards = await cards_of(work, periods)
            priced = [_Priced(period, cards[period.key]) for period in periods]
            estimated = await _estimate(work, priced, measured) if periods else {}
        return Estimate(measured.quantities, [estimated[period.key] for period in periods], watermark)


@dataclass(frozen=True, slots=True)
class _Priced:
    """A billing period and the card in force, or why there is none."""

    period: BillingPeriod
    card: RateCard | RatingProblem


async def _estimate(work: Work, priced: Sequence[_Priced], event: MeasuredEvent) -> dict[PeriodKey, EstimatedPeriod]:
    """Return an estimate for each billing period; what usage of meanwhile made differ is read again."""
    estimated: dict[PeriodKey, EstimatedPeriod] = {}
    left = priced
    for _ in range(_TRIES):
        keys = [item.period.key for item in left]
        told, usage = await work.exact_usage.of_periods(keys), await work.usage.of_periods(keys)
        terms = await read_terms(work, {item.period.key: item.card for item in left if isinstance(item.card, RateCard)})
        by_dimensions = await work.dimensions.of_periods(keys)
        priced_periods = [(item.period, item.card) for item in left if isinstance(item.card, RateCard)]
        by_cut = await read_usage_by_window(work, priced_periods)
        estimated |= {
            key: _estimated(
                item,
                event,
                _Usage(usage[key], told[key], by_dimensions[key], terms.so_far(key), by_cut.get(key, NO_WINDOWS)),
            )
            for key, item in zip(keys, left, strict=True)
        }
        left = [item for item in left if _differed(estimated[item.period.key])]
        if not left:
            break
    return estimated


@dataclass(frozen=True, slots=True)
class _Usage:
    """Of one billing period."""

    by_meter: Mapping[str, MeterUsage]
    exact: Mapping[str, ExactUsage]
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]]
    so_far: Mapping[str, TermSoFar]
    by_cut: UsageByCut


def _estimated(priced: _Priced, event: MeasuredEvent, usage: _Usage) -> EstimatedPeriod:
    period, card = priced.period, priced.card
    if isinstance(card, RatingProblem):
        return EstimatedPeriod(period, problem=card)
    if missing := exact_meters(card) - usage.exact.keys():
        description = f"ingest has not told the quantity of {', '.join(sorted(missing))}"
        return EstimatedPeriod(period, card, problem=RatingProblem(USAGE_UNAVAILABLE, description))
    more = usage_with(usage.by_meter, event), dimensions_with(usage.by_dimensions, event, matrix_meters(card))
    before = charges_of(period, card, usage.by_meter, usage.exact, usage.by_dimensions, usage.so_far, usage.by_cut)
    windows = windows_with(usage.by_cut, event, period)
    after = charges_of(period, card, more[0], usage.exact, more[1], usage.so_far, windows)
    if isinstance(before, RatingProblem):
        return EstimatedPeriod(period, card, problem=before)
    if isinstance(after, RatingProblem):
        return EstimatedPeriod(period, card, problem=after)
    return EstimatedPeriod(period, card, estimated_lines(card, event, before, after))


def _differed(estimated: EstimatedPeriod) -> bool:
    return estimated.problem is not None and estimated.problem.reason == DIMENSIONS_DIFFER
