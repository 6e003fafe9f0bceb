"""Rate billing periods: from roll-ups and the card in force to charges. Live rating and confirmation both end here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from libs.clock import Clock
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.period_charge import (
    PeriodCharge,
    card_in_force,
    charges_of_period,
    in_card_order,
    withdrawn_charges,
)
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import MeterUsage
from services.rating.usecases.ports import Work
from services.rating.usecases.trace import rating_span

RATE_CARD_UNKNOWN = "RATE_CARD_UNKNOWN"
RATE_CARD_NOT_IN_FORCE = "RATE_CARD_NOT_IN_FORCE"
PRICING_FAILED = "PRICING_FAILED"


@dataclass(slots=True)
class RatedPeriods:
    """What came out: charges in the order of the card, or a problem, per billing period that exists."""

    charges: dict[PeriodKey, list[PeriodCharge]] = field(default_factory=dict)
    problems: dict[PeriodKey, RatingProblem] = field(default_factory=dict)
    changed_count: int = 0


async def rate_periods(work: Work, keys: Sequence[PeriodKey], clock: Clock) -> RatedPeriods:
    """Rate billing periods as they are now and store the charges whose content changed, to be published.

    The periods' rows stay locked until the transaction ends. All reads come after that lock, so that of two who rate
    the same period the later one sees at least what the earlier one saw.
    """
    periods = await work.periods.lock(keys)
    locked = [period.key for period in periods]
    usage = await work.usage.of_periods(locked)
    cards = await work.cards.versions({(period.key.tenant_id, period.rate_card_id) for period in periods})
    stored = await work.charges.of_periods(locked)
    known_problems = await work.charges.problems(locked)

    rated = RatedPeriods()
    changed: list[PeriodCharge] = []
    for period in periods:
        versions = cards.get((period.key.tenant_id, period.rate_card_id), [])
        current = stored.get(period.key, {})
        outcome = _rate_period(period, versions, usage[period.key], current)
        if isinstance(outcome, RatingProblem):
            rated.problems[period.key] = outcome
            continue
        rated.charges[period.key] = [_kept(current.get(charge.price_id), charge) for charge in outcome]
        changed += [charge for charge in outcome if charge != current.get(charge.price_id)]
    await _store(work, rated, changed, clock())
    if rated.problems != known_problems:
        await work.charges.save_problems(locked, rated.problems, clock())
    return rated


def _rate_period(
    period: BillingPeriod,
    versions: Sequence[RateCard],
    usage: Mapping[str, MeterUsage],
    current: Mapping[str, PeriodCharge],
) -> list[PeriodCharge] | RatingProblem:
    if not versions:
        return RatingProblem(RATE_CARD_UNKNOWN, f"there is no rate card {period.rate_card_id}")
    card = card_in_force(versions, period.key.period_start)
    if card is None:
        start = period.key.period_start.isoformat()
        return RatingProblem(RATE_CARD_NOT_IN_FORCE, f"no version of {period.rate_card_id} is in force at {start}")
    try:
        fresh = charges_of_period(period, card, usage)
    except (ArithmeticError, ValueError) as error:  # One impossible amount must not stop the periods beside it.
        return RatingProblem(PRICING_FAILED, f"{type(error).__name__}: {error}")
    return in_card_order([*fresh, *withdrawn_charges(current, fresh, card)])


def _kept(current: PeriodCharge | None, fresh: PeriodCharge) -> PeriodCharge:
    return current if current == fresh else fresh  # The current one has its version.


async def _store(work: Work, rated: RatedPeriods, changed: Sequence[PeriodCharge], now: datetime) -> None:
    if not changed:
        return
    trace_parents = {charge.trace_parent for charge in changed if charge.trace_parent}
    with rating_span(trace_parents, len({charge.key for charge in changed})) as continued:
        traced = [
            replace(charge, trace_parent=continued.get(charge.trace_parent, charge.trace_parent)) for charge in changed
        ]
        versions = await work.charges.save(traced, now)
    saved = {
        (charge.key, charge.price_id): replace(charge, version=versions[charge.key, charge.price_id])
        for charge in traced
    }
    for key, charges in rated.charges.items():
        rated.charges[key] = [saved.get((key, charge.price_id), charge) for charge in charges]
    rated.changed_count = len(changed)
