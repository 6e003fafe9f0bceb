"""Try another rate card on usage that happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey, PeriodScope
from services.rating.domain.charges import NO_DIMENSIONS
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.exact_usage import ExactUsage, QuantityScope, Questions
from services.rating.domain.period_charge import NO_WINDOWS, PeriodCharge, exact_meters, matrix_meters
from services.rating.domain.price_override import PriceOverride, agreed_card
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.simulation import SimulatedPeriod, compare
from services.rating.domain.simulation_summary import SimulationSummary
from services.rating.domain.usage import DimensionedQuantity, MeterUsage
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.ports import OpenWork, Work
from services.rating.usecases.rate_periods import (
    DIMENSIONS_DIFFER,
    RATE_CARD_NOT_IN_FORCE,
    USAGE_UNAVAILABLE,
    card_of,
    charges_of,
)
from services.rating.usecases.simulated_terms import SimulatedTerms, simulated_terms
from services.rating.usecases.usage_by_window import UsageByCut, in_slices, read_usage_by_window

CURRENCY_DIFFERS = "CURRENCY_DIFFERS"
CHUNK = 500

_EARLIER_MAX = 1_000
"""Billing periods of one subscription; more than anybody has, who is billed by month."""

_TRIES = 3
"""Usage that flows meanwhile may make two readings differ."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """What the prices of two cards need of some billing periods, read at one moment."""

    by_meter: Mapping[PeriodKey, Mapping[str, MeterUsage]]
    exact: Mapping[PeriodKey, Mapping[str, ExactUsage]]
    by_dimensions: Mapping[PeriodKey, Mapping[str, Sequence[DimensionedQuantity]]]
    terms: SimulatedTerms
    by_cut: Mapping[PeriodKey, UsageByCut]

    def charges(
        self, period: BillingPeriod, card: RateCard, so_far: Mapping[str, TermSoFar]
    ) -> list[PeriodCharge] | RatingProblem:
        key = period.key
        if missing := exact_meters(card) - self.exact.get(key, {}).keys():
            description = f"ingest has not told the quantity of {', '.join(sorted(missing))}"
            return RatingProblem(USAGE_UNAVAILABLE, description)
        split_by = self.by_dimensions.get(key, NO_DIMENSIONS), so_far, self.by_cut.get(key, NO_WINDOWS)
        return charges_of(period, card, self.by_meter[key], self.exact.get(key, {}), *split_by)


class Simulate:
    """Prices the usage of billing periods by the card in force and by another one. Stores nothing."""

    def __init__(self, open_work: OpenWork, ask_quantities: AskQuantities) -> None:
        self._open_work = open_work
        self._ask_quantities = ask_quantities

    async def page(
        self, scope: PeriodScope, card: RateCard, after: tuple[str, str, datetime] | None, limit: int
    ) -> list[SimulatedPeriod]:
        """Compare the next billing periods behind `after`, by customer, subscription and start."""
        async with self._open_work(scope.tenant_id) as work:
            found = await work.periods.by_customer(scope, after, limit)
            # What a term has come to begins with its first period, which an earlier page may have had.
            periods = [*await _earlier(work, scope, found[0]), *found] if after and found else found
            cards = {(scope.tenant_id, period.rate_card_id) for period in periods}
            versions = await work.cards.versions(cards) if cards else {}
            overrides = await work.overrides.of_periods(periods)
        in_force = {
            period.key: card_of(
                period, versions.get((scope.tenant_id, period.rate_card_id), []), overrides.get(period.key, ())
            )
            for period in periods
        }
        tried = {
            period.key: _tried(period, in_force[period.key], card, overrides.get(period.key, ())) for period in periods
        }
        compared: dict[PeriodKey, SimulatedPeriod] = {}
        for _ in range(_TRIES):
            again = {period.key[:2] for period in periods if _worth_another_try(compared.get(period.key))}
            left = [period for period in periods if period.key[:2] in again]
            if not left:
                break
            compared |= await self._compare(scope.tenant_id, left, in_force, tried)
        return [compared[period.key] for period in found]

    async def all(self, scope: PeriodScope, card: RateCard) -> AsyncIterator[SimulatedPeriod]:
        """Compare all of them, a chunk in memory at a time."""
        after: tuple[str, str, datetime] | None = None
        while True:
            page = await self.page(scope, card, after, CHUNK)
            for compared in page:
                yield compared
            if len(page) < CHUNK:
                return
            after = page[-1].place

    async def summaries(self, scope: PeriodScope, card: RateCard) -> dict[str, SimulationSummary]:
        """Compare all of them, and tell who would pay more and who less, by currency; the card's own is there."""
        summaries = {card.currency: SimulationSummary()}
        async for compared in self.all(scope, card):
            summaries.setdefault(compared.currency, SimulationSummary()).add(compared)
        for summary in summaries.values():
            summary.finish()
        return summaries

    async def _compare(
        self,
        tenant_id: str,
        periods: Sequence[BillingPeriod],
        in_force: Mapping[PeriodKey, RateCard | RatingProblem],
        tried: Mapping[PeriodKey, RateCard],
    ) -> dict[PeriodKey, SimulatedPeriod]:
        priced = {key: card for key, card in in_force.items() if isinstance(card, RateCard)}
        async with self._open_work(tenant_id) as work:
            terms = await simulated_terms(work, priced, tried)
        compared: dict[PeriodKey, SimulatedPeriod] = {}
        for part in in_slices([(period, _cards(tried[period.key], in_force[period.key])) for period in periods]):
            usage = await self._usage(tenant_id, part, priced, tried, terms)
            for period in part:
                compared[period.key] = _compared(period, in_force[period.key], tried[period.key], usage)
        return compared

    async def _usage(
        self,
        tenant_id: str,
        periods: Sequence[BillingPeriod],
        priced: Mapping[PeriodKey, RateCard],
        tried: Mapping[PeriodKey, RateCard],
        terms: SimulatedTerms,
    ) -> _Usage:
        cards = {id(card): card for card in [*priced.values(), *tried.values()]}.values()
        exact = await self._exact(periods, {meter for each in cards for meter in exact_meters(each)})
        split = {meter for each in cards for meter in matrix_meters(each)}
        keys = [period.key for period in periods]
        async with self._open_work(tenant_id) as work:
            by_meter = await work.usage.of_periods(keys)
            by_dimensions = await work.dimensions.of_windows(keys, sorted(split)) if split else {}
            by_cut = await read_usage_by_window(
                work,
                [(period, side[period.key]) for side in (priced, tried) for period in periods if period.key in side],
            )
        return _Usage(by_meter, exact, by_dimensions, terms, by_cut)

    async def _exact(
        self, periods: Sequence[BillingPeriod], meters: set[str]
    ) -> Mapping[PeriodKey, Mapping[str, ExactUsage]]:
        """Ask ingest; what it does not tell is left out."""
        wanted = {
            period.key: [
                QuantityScope(period.customer_id, meter_id, period.period, period.time_zone)
                for meter_id in sorted(meters)
            ]
            for period in periods
        }
        if not meters:
            return {}
        answers = await self._ask_quantities(Questions(0, wanted))
        found: dict[PeriodKey, dict[str, ExactUsage]] = {}
        for (key, scope), exact in answers.told.items():
            found.setdefault(key, {})[scope.meter_id] = exact
        return found


def _tried(
    period: BillingPeriod, in_force: RateCard | RatingProblem, card: RateCard, overrides: Sequence[PriceOverride]
) -> RateCard:
    """Return the card in the currency that a billing period is paid in; in its own one if it lacks that."""
    currency = in_force.currency if isinstance(in_force, RateCard) else period.currency
    # What was agreed for the prices of this card stays agreed in a further version of it.
    agreed = overrides if period.rate_card_id == card.rate_card_id else ()
    return agreed_card(card, currency, agreed) or card


def _cards(*found: RateCard | RatingProblem) -> list[RateCard]:
    return [card for card in found if isinstance(card, RateCard)]


def _worth_another_try(compared: SimulatedPeriod | None) -> bool:
    return compared is None or (compared.problem is not None and compared.problem.reason == DIMENSIONS_DIFFER)


async def _earlier(work: Work, scope: PeriodScope, first: BillingPeriod) -> list[BillingPeriod]:
    """The periods of the scope that the subscription has before its `first` one of a page."""
    if first.key.period_start <= scope.within.start:
        return []
    before = scope._replace(within=Period(scope.within.start, first.key.period_start))
    place = first.customer_id, first.key.subscription_id, scope.within.start - timedelta(microseconds=1)
    found = await work.periods.by_customer(before, place, _EARLIER_MAX)
    return [period for period in found if period.key.subscription_id == first.key.subscription_id]


def _compared(
    period: BillingPeriod, in_force: RateCard | RatingProblem, card: RateCard, usage: _Usage
) -> SimulatedPeriod:
    compared = _priced_twice(period, in_force, card, usage)
    if compared.problem is not None and compared.problem.reason != RATE_CARD_NOT_IN_FORCE:
        usage.terms.failed(period.key)
    return compared


def _priced_twice(
    period: BillingPeriod, in_force: RateCard | RatingProblem, card: RateCard, usage: _Usage
) -> SimulatedPeriod:
    if isinstance(in_force, RatingProblem):
        return SimulatedPeriod(period, card.currency, problem=in_force)
    if in_force.currency != card.currency:
        problem = RatingProblem(CURRENCY_DIFFERS, f"{in_force.rate_card_id} is in {in_force.currency}")
        return SimulatedPeriod(period, card.currency, in_force.version, problem=problem)
    if missing := usage.terms.missing(period.key):
        return SimulatedPeriod(period, card.currency, in_force.version, problem=missing)
    current = usage.charges(period, in_force, usage.terms.in_force.so_far(period.key))
    if isinstance(current, RatingProblem):
        return SimulatedPeriod(period, card.currency, in_force.version, problem=current)
    simulated = usage.charges(period, card, usage.terms.tried.so_far(period.key))
    if isinstance(simulated, RatingProblem):
        return SimulatedPeriod(period, card.currency, in_force.version, problem=simulated)
    usage.terms.priced(period.key, current, simulated)
    return compare(period, current, simulated, card.currency)
