"""Commitments over several billing periods: what earlier periods have used, and which later ones have to follow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.commitment_term import (
    MAX_COMMITTED_PERIODS,
    NO_TERM,
    CountedPeriod,
    Term,
    Terms,
    TermSoFar,
    committed_periods,
)
from services.rating.domain.committed_cost import CommittedCost, SubscriptionKey, subscription_of
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.rate_card import RateCard
from services.rating.usecases.ports import Work

EARLIER_PERIOD_NOT_RATED = "EARLIER_PERIOD_NOT_RATED"

_SUMS = Context(prec=1_000, traps=[Inexact, InvalidOperation])
"""Holds every sum of costs of which each fits the context of quantities. A sum that does not fit there fails the
pricing of its billing period, and not that of all beside it."""

_Costs = dict[datetime, CommittedCost]
"""Of one price of one subscription, by start of the billing period."""


class ChunkTerms:
    """The terms of some billing periods.

    Periods of one subscription have to be priced by start: what `rated` is told counts for the later ones.
    """

    def __init__(
        self,
        lengths: Mapping[PeriodKey, Mapping[str, int]],
        terms: Mapping[SubscriptionKey, Terms],
        costs: Sequence[CommittedCost],
    ) -> None:
        self._lengths = lengths
        self._terms = terms
        self._costs: dict[tuple[SubscriptionKey, str], _Costs] = {}
        self._of_period: dict[PeriodKey, dict[str, CommittedCost]] = {}
        self._rated: set[PeriodKey] = set()
        self._changed: list[CommittedCost] = []
        self._gone: list[CommittedCost] = []
        self._moved: list[CommittedCost] = []
        for cost in costs:
            self._costs.setdefault((cost.subscription, cost.price_id), {})[cost.key.period_start] = cost
            self._of_period.setdefault(cost.key, {})[cost.price_id] = cost

    def so_far(self, key: PeriodKey) -> Mapping[str, TermSoFar]:
        """Return what the terms of a billing period have come to before it, by price."""
        if key not in self._lengths:
            return NO_TERM
        found: dict[str, TermSoFar] = {}
        for price_id in self._lengths[key]:
            term = self._term(key, price_id)
            found[price_id] = TermSoFar(term.number, term.is_last, self._used(key, price_id, term.start))
        return found

    def since(self, key: PeriodKey) -> datetime:
        """Return the start of the earliest billing period on which the amounts of this one depend."""
        return min(
            (self._term(key, price_id).start for price_id in self._lengths.get(key, ())), default=key.period_start
        )

    def rated(self, key: PeriodKey, charges: Sequence[PeriodCharge]) -> None:
        """Count the charges of a billing period instead of those that are stored."""
        self._rated.add(key)
        stored = dict(self._of_period.get(key, {}))
        for charge in charges:
            if charge.before_commitment is None:
                continue
            start = self._term(key, charge.price_id).start
            used = self._used(key, charge.price_id, start)
            cost = CommittedCost(key, charge.price_id, start, used, charge.before_commitment)
            known = stored.pop(charge.price_id, None)
            if known != cost:
                self._changed.append(cost)
                self._costs.setdefault((cost.subscription, cost.price_id), {})[key.period_start] = cost
            if known is None or known.cost != cost.cost:
                self._moved.append(cost)
        for cost in stored.values():
            self._gone.append(cost)
            self._moved.append(cost)
            del self._costs[cost.subscription, cost.price_id][key.period_start]

    def following(self) -> set[PeriodKey]:
        """Return the later billing periods, of those not rated here, whose amounts depend on what has changed."""
        return {
            cost.key
            for moved in self._moved
            for at, cost in self._costs[moved.subscription, moved.price_id].items()
            if cost.term_start <= moved.key.period_start < at and cost.key not in self._rated
        }

    async def save(self, work: Work, now: datetime) -> None:
        """Store what has changed, and have the later billing periods of the terms follow."""
        await work.terms.save(self._changed, self._gone)
        await work.queue.mark(self.following(), now)

    def _used(self, key: PeriodKey, price_id: str, since: datetime) -> Decimal:
        costs = self._costs.get((subscription_of(key), price_id), {})
        with localcontext(_SUMS):
            return sum((cost.cost for at, cost in costs.items() if since <= at < key.period_start), Decimal(0))

    def _term(self, key: PeriodKey, price_id: str) -> Term:
        return self._terms[subscription_of(key)].term(key.period_start, self._lengths[key][price_id])


async def lock_terms(work: Work, keys: Sequence[PeriodKey], cards: Mapping[PeriodKey, RateCard]) -> ChunkTerms:
    """Return the terms of billing periods whose rows are locked; their subscriptions are locked from then on.

    Periods without a card count nothing, whatever is stored of them.
    """
    lengths = term_lengths(cards)
    # Those that have no such commitment any more leave costs behind, which others may have counted.
    concerned = lengths.keys() | (await work.terms.counted(keys))
    if concerned:
        await work.terms.lock({subscription_of(key) for key in concerned})
    terms = await _read(work, lengths, concerned)
    for key in set(keys).difference(cards):
        terms.rated(key, ())
    return terms


async def read_terms(work: Work, cards: Mapping[PeriodKey, RateCard]) -> ChunkTerms:
    """Return the terms of billing periods of which nothing is to be stored."""
    lengths = term_lengths(cards)
    return await _read(work, lengths, lengths.keys())


async def known_periods(work: Work, keys: Sequence[PeriodKey]) -> dict[str, list[CountedPeriod]]:
    """Return all billing periods of those of one tenant's subscriptions whose periods may depend on earlier ones."""
    committed = await work.terms.committed(keys)
    if not committed:
        return {}
    periods = await work.terms.periods({subscription_of(key) for key in committed})
    return {subscription.subscription_id: found for subscription, found in periods.items()}


async def unrated_before(work: Work, keys: Sequence[PeriodKey]) -> list[PeriodKey]:
    """Return the earlier billing periods that those may depend on and that wait to be rated, or could not be."""
    committed = await work.terms.committed(keys)
    if not committed:
        return []
    periods = await work.terms.periods({subscription_of(key) for key in committed})
    terms = {subscription: Terms(found) for subscription, found in periods.items()}
    earlier = {
        PeriodKey(key.tenant_id, key.subscription_id, start)
        for key in committed
        for start in terms[subscription_of(key)].before(key.period_start, MAX_COMMITTED_PERIODS)
    }
    return sorted(await work.terms.unrated(earlier.difference(keys)))


def term_lengths(cards: Mapping[PeriodKey, RateCard]) -> dict[PeriodKey, dict[str, int]]:
    """Over how many billing periods the commitments of those cards are that have any such, by price."""
    return {key: lengths for key, card in cards.items() if (lengths := committed_periods(card))}


def earliest_starts(keys: Collection[PeriodKey], *sides: ChunkTerms) -> dict[SubscriptionKey, datetime]:
    """Since when billing periods of each subscription count for some of them."""
    found: dict[SubscriptionKey, datetime] = {}
    for key in keys:
        subscription, start = subscription_of(key), min(side.since(key) for side in sides)
        found[subscription] = min(start, found.get(subscription, start))
    return found


async def _read(
    work: Work, lengths: Mapping[PeriodKey, Mapping[str, int]], concerned: Collection[PeriodKey]
) -> ChunkTerms:
    if not concerned:
        return ChunkTerms({}, {}, ())
    periods = await work.terms.periods({subscription_of(key) for key in concerned})
    terms = {subscription: Terms(found) for subscription, found in periods.items()}
    costs = await work.terms.costs(earliest_starts(concerned, ChunkTerms(lengths, terms, ())))
    return ChunkTerms(lengths, terms, costs)
