"""Rate billing periods: from roll-ups and the card in force to charges. Live rating and confirmation both end here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from libs.clock import Clock
from libs.periods import UnknownZone
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.charges import NO_DIMENSIONS
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.exact_usage import Answers, ExactUsage
from services.rating.domain.period_charge import (
    NO_WINDOWS,
    ChangedCharge,
    PeriodCharge,
    card_in_force,
    charges_of_period,
    exact_meters,
    matrix_meters,
    withdrawn_charge,
)
from services.rating.domain.price_override import PriceOverride, agreed_card
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import DimensionedQuantity, MeterUsage, differing_dimensions
from services.rating.domain.usage_by_window import differing_cuts
from services.rating.usecases.commitment_terms import ChunkTerms, lock_terms
from services.rating.usecases.ports import Work
from services.rating.usecases.trace import rating_span
from services.rating.usecases.usage_by_window import UsageByCut, in_slices, read_usage_by_window

RATE_CARD_UNKNOWN = "RATE_CARD_UNKNOWN"
RATE_CARD_NOT_IN_FORCE = "RATE_CARD_NOT_IN_FORCE"
RATE_CARD_LACKS_CURRENCY = "RATE_CARD_LACKS_CURRENCY"
PRICING_FAILED = "PRICING_FAILED"
USAGE_UNAVAILABLE = "USAGE_UNAVAILABLE"
DIMENSIONS_DIFFER = "DIMENSIONS_DIFFER"

NOTHING_ASKED = Answers()

_TRIES = 3
"""Usage that flows meanwhile may make two readings differ."""


@dataclass(slots=True)
class RatedPeriods:
    """What came out: the billing periods that exist, as they were rated, and why some of them could not be."""

    periods: dict[PeriodKey, BillingPeriod] = field(default_factory=dict)
    problems: dict[PeriodKey, RatingProblem] = field(default_factory=dict)
    changed_count: int = 0
    since: dict[PeriodKey, datetime] = field(default_factory=dict)
    """Of periods that were priced: the start of the earliest one on which they depend."""

    @property
    def unpriced(self) -> set[PeriodKey]:
        """Periods that have no price yet, and not those before any version of their card, which never have one."""
        return {key for key, problem in self.problems.items() if problem.reason != RATE_CARD_NOT_IN_FORCE}

    def depends(self, key: PeriodKey, on: Collection[PeriodKey]) -> bool:
        """Whether the amounts of a period that was priced depend on an earlier one of these."""
        since = self.since.get(key, key.period_start)
        return any(other[:2] == key[:2] and since <= other.period_start < key.period_start for other in on)


async def rate_periods(
    work: Work, keys: Sequence[PeriodKey], clock: Clock, answers: Answers = NOTHING_ASKED
) -> RatedPeriods:
    """Rate billing periods as they are now and store the charges whose content changed, to be published.

    `answers` are ingest's for prices on exact usage, asked for before the transaction; a period that lacks one is not
    rated.

    The periods' rows stay locked until the transaction ends. All reads come after that lock, so that of two who rate
    the same period the later one sees at least what the earlier one saw.
    """
    periods = {period.key: period for period in await work.periods.lock(keys)}
    locked = list(periods)
    usage, exact = await work.usage.of_periods(locked), await _exact_usage(work, periods, answers)
    known_problems = await work.charges.problems(locked)

    rated = RatedPeriods(periods)
    in_force = await _cards_in_force(work, rated)
    cards: dict[PeriodKey, RateCard] = {}
    for key, card in in_force.items():
        if missing := exact_meters(card) - exact[key].keys():
            description = f"ingest has not told the quantity of {', '.join(sorted(missing))}"
            rated.problems[key] = RatingProblem(USAGE_UNAVAILABLE, description)
        else:
            cards[key] = card
    terms = await lock_terms(work, locked, in_force)
    fresh: dict[PeriodKey, list[PeriodCharge]] = {}
    # By start: later periods of a term count what the earlier ones come to.
    for part in in_slices([(periods[key], [card]) for key, card in sorted(cards.items())]):
        priced = [(period, cards[period.key]) for period in part]
        for key, charges in await _price(work, priced, usage, exact, terms):
            if isinstance(charges, RatingProblem):
                rated.problems[key] = charges
            else:
                fresh[key], rated.since[key] = charges, terms.since(key)
    changed = await work.charges.changed(fresh, lambda stored: withdrawn_charge(stored, cards[stored.key]))
    rated.changed_count = len(changed)
    await _store(work, changed, clock())
    await terms.save(work, clock())
    if rated.problems != known_problems:
        await work.charges.save_problems(locked, rated.problems, clock())
    return rated


async def _cards_in_force(work: Work, rated: RatedPeriods) -> dict[PeriodKey, RateCard]:
    """Return the cards that price billing periods, and note why some have none."""
    in_force: dict[PeriodKey, RateCard] = {}
    for key, card in (await cards_of(work, list(rated.periods.values()))).items():
        if isinstance(card, RatingProblem):
            rated.problems[key] = card
        else:
            in_force[key] = card
    return in_force


async def _price(
    work: Work,
    priced: Sequence[tuple[BillingPeriod, RateCard]],
    usage: dict[PeriodKey, dict[str, MeterUsage]],
    exact: Mapping[PeriodKey, Mapping[str, ExactUsage]],
    terms: ChunkTerms,
) -> list[tuple[PeriodKey, list[PeriodCharge] | RatingProblem]]:
    """Price billing periods, in the order in which they are given, and count what they come to in their terms."""
    by_cut = await _by_window(work, priced, usage)
    split = [period.key for period, card in priced if matrix_meters(card)]
    by_dimensions = await work.dimensions.of_periods(split) if split else {}
    found: list[tuple[PeriodKey, list[PeriodCharge] | RatingProblem]] = []
    for period, card in priced:
        key = period.key
        split_by = by_dimensions.get(key, NO_DIMENSIONS), terms.so_far(key), by_cut.get(key, NO_WINDOWS)
        charges = charges_of(period, card, usage[key], exact[key], *split_by)
        if not isinstance(charges, RatingProblem):
            terms.rated(key, charges)
        found.append((key, charges))
    return found


async def _by_window(
    work: Work, priced: Sequence[tuple[BillingPeriod, RateCard]], usage: dict[PeriodKey, dict[str, MeterUsage]]
) -> dict[PeriodKey, UsageByCut]:
    """Return the usage by windows; where what flows meanwhile makes it differ, `usage` is read again, too."""
    found: dict[PeriodKey, UsageByCut] = {}
    left = priced
    for tried in range(_TRIES):
        if tried:
            usage |= await work.usage.of_periods([period.key for period, _ in left])
        found |= await read_usage_by_window(work, left)
        left = [item for item in left if differing_cuts(usage[item[0].key], found.get(item[0].key, NO_WINDOWS))]
        if not left:
            break
    return found


async def _exact_usage(
    work: Work, periods: Mapping[PeriodKey, BillingPeriod], answers: Answers
) -> dict[PeriodKey, dict[str, ExactUsage]]:
    """Store the answers to what the periods are now, and return the newest ones of the meters that were answered."""
    told = {
        (key, scope.meter_id): exact
        for (key, scope), exact in answers.told.items()
        if key in periods and (scope.customer_id, scope.period) == (periods[key].customer_id, periods[key].period)
    }
    await work.exact_usage.save(told, answers.number)
    # Somebody who asked later may have been here before.
    newest = await work.exact_usage.of_periods(sorted({key for key, _ in told})) if told else {}
    exact: dict[PeriodKey, dict[str, ExactUsage]] = {key: {} for key in periods}
    for key, meter_id in told:
        exact[key][meter_id] = newest[key][meter_id]
    return exact


async def cards_of(work: Work, periods: Sequence[BillingPeriod]) -> dict[PeriodKey, RateCard | RatingProblem]:
    """Return the card that prices each billing period with what was agreed for it, or why none does."""
    keys = {(period.key.tenant_id, period.rate_card_id) for period in periods}
    versions = await work.cards.versions(keys) if keys else {}
    overrides = await work.overrides.of_periods(periods)
    return {
        period.key: card_of(
            period,
            versions.get((period.key.tenant_id, period.rate_card_id), []),
            overrides.get(period.key, ()),
        )
        for period in periods
    }


def card_of(
    period: BillingPeriod, versions: Sequence[RateCard], overrides: Sequence[PriceOverride]
) -> RateCard | RatingProblem:
    """Return the version that prices a billing period with what was agreed for it, or why none does."""
    if not versions:
        return RatingProblem(RATE_CARD_UNKNOWN, f"there is no rate card {period.rate_card_id}")
    card = card_in_force(versions, period.key.period_start)
    if card is None:
        start = period.key.period_start.isoformat()
        return RatingProblem(RATE_CARD_NOT_IN_FORCE, f"no version of {period.rate_card_id} is in force at {start}")
    agreed = agreed_card(card, period.currency, overrides)
    if agreed is None:
        description = f"version {card.version} of {period.rate_card_id} has no prices in {period.currency}"
        return RatingProblem(RATE_CARD_LACKS_CURRENCY, description)
    return agreed


def charges_of(
    period: BillingPeriod,
    card: RateCard,
    usage: Mapping[str, MeterUsage],
    exact: Mapping[str, ExactUsage],
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]],
    so_far: Mapping[str, TermSoFar],
    by_cut: UsageByCut,
) -> list[PeriodCharge] | RatingProblem:
    """Return the charges of a billing period, or why it cannot be priced."""
    if differing := differing_dimensions(matrix_meters(card), usage, by_dimensions):
        return RatingProblem(DIMENSIONS_DIFFER, f"dimensions do not add up to the quantity of {', '.join(differing)}")
    if apart := differing_cuts(usage, by_cut):
        meters = ", ".join(sorted({cut.meter_id for cut in apart}))
        return RatingProblem(DIMENSIONS_DIFFER, f"windows do not add up to the quantity of {meters}")
    try:
        return charges_of_period(period, card, usage, exact, by_dimensions, so_far, by_cut)
    # One impossible amount, or a zone that only newer databases have, must not stop the periods beside it.
    except (ArithmeticError, ValueError, UnknownZone) as error:
        return RatingProblem(PRICING_FAILED, f"{type(error).__name__}: {error}")


async def _store(work: Work, changed: Sequence[ChangedCharge], now: datetime) -> None:
    if not changed:
        return
    trace_parents = {charge.trace_parent for charge, _ in changed if charge.trace_parent}
    with rating_span(trace_parents, len({charge.key for charge, _ in changed})) as continued:
        await work.charges.save([_traced(item, continued) for item in changed] if continued else changed, now)


def _traced(item: ChangedCharge, continued: Mapping[str, str]) -> ChangedCharge:
    trace_parent = continued.get(item.charge.trace_parent)
    if trace_parent is None:
        return item
    return item._replace(charge=item.charge._replace(trace_parent=trace_parent))
