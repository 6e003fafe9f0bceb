"""Commitments over several billing periods in a simulation: each card counts what it would have charged itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.commitment_term import Terms
from services.rating.domain.committed_cost import subscription_of
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.usecases.commitment_terms import (
    EARLIER_PERIOD_NOT_RATED,
    ChunkTerms,
    earliest_starts,
    term_lengths,
)
from services.rating.usecases.ports import Work


@dataclass(frozen=True, slots=True)
class SimulatedTerms:
    """The terms of billing periods as they are, and as they would be if another card priced all of these periods.

    Earlier periods that are not simulated count with what they cost, as long as their card is the same one.
    """

    in_force: ChunkTerms
    tried: ChunkTerms
    _failed: set[PeriodKey] = field(default_factory=set)

    def missing(self, key: PeriodKey) -> RatingProblem | None:
        """Return why a billing period cannot be compared because of an earlier one of a term, None if it can."""
        since = min(self.in_force.since(key), self.tried.since(key))
        if not any(
            subscription_of(failed) == subscription_of(key) and since <= failed.period_start < key.period_start
            for failed in self._failed
        ):
            return None
        return RatingProblem(EARLIER_PERIOD_NOT_RATED, "an earlier billing period of a commitment's term has no price")

    def priced(self, key: PeriodKey, in_force: Sequence[PeriodCharge], tried: Sequence[PeriodCharge]) -> None:
        """Count what a billing period costs on both sides for the later ones."""
        self.in_force.rated(key, in_force)
        self.tried.rated(key, tried)

    def failed(self, key: PeriodKey) -> None:
        """Let nothing be compared that depends on a billing period."""
        self._failed.add(key)


async def simulated_terms(
    work: Work, in_force: Mapping[PeriodKey, RateCard], tried: Mapping[PeriodKey, RateCard]
) -> SimulatedTerms:
    """Return the terms of billing periods by the cards in force and by those that are tried."""
    now, then = term_lengths(in_force), term_lengths(tried)
    concerned = now.keys() | then.keys()
    if not concerned:
        return SimulatedTerms(ChunkTerms({}, {}, ()), ChunkTerms({}, {}, ()))
    periods = await work.terms.periods({subscription_of(key) for key in concerned})
    terms = {subscription: Terms(found) for subscription, found in periods.items()}
    moved = {
        subscription: Terms(
            [
                period._replace(rate_card_id=tried[key].rate_card_id)
                if (key := PeriodKey(*subscription, period.start)) in tried
                else period
                for period in found
            ]
        )
        for subscription, found in periods.items()
    }
    sides = ChunkTerms(now, terms, ()), ChunkTerms(then, moved, ())
    costs = await work.terms.costs(earliest_starts(concerned, *sides))
    return SimulatedTerms(
        ChunkTerms(now, terms, costs), ChunkTerms(then, moved, [cost for cost in costs if cost.key not in tried])
    )
