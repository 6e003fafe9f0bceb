"""Terms converge: whoever rates which periods when, and in whatever order usage comes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.periods import add_months
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.commitment_term import CountedPeriod, Terms
from services.rating.domain.committed_cost import CommittedCost, SubscriptionKey
from services.rating.domain.period_charge import PeriodCharge, charges_of_period
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import LinesBefore, PerUnit
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import MeterUsage, UsageDigest
from services.rating.usecases.commitment_terms import ChunkTerms
from services.rating.usecases.rate_periods import charges_of

D = Decimal
SUBSCRIPTION = SubscriptionKey("acme", "sub-1")
COUNT = 9


def over(value: int, periods: int) -> PriceTerms:
    return PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, D(value), D("1.5"), periods=periods))


CARD = RateCard(
    "card",
    1,
    "EUR",
    None,
    (
        Price("calls", PerUnit(D(1)), "calls", terms=over(100, 4)),
        Price("all", LinesBefore(), terms=over(150, 3)),
    ),
)


def month(number: int) -> datetime:
    day = add_months(datetime(2026, 1, 1, tzinfo=UTC).date(), number, 1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


KEYS = [PeriodKey(*SUBSCRIPTION, month(number)) for number in range(COUNT)]
TERMS = {SUBSCRIPTION: Terms([CountedPeriod(month(n), month(n + 1), "card", None) for n in range(COUNT)])}
LENGTHS = {key: {"calls": 4, "all": 3} for key in KEYS}


@dataclass
class Stored:
    """What a database would have: costs, charges, and periods that are marked."""

    quantities: list[int] = field(default_factory=lambda: [0] * COUNT)
    costs: dict[tuple[PeriodKey, str], CommittedCost] = field(default_factory=dict)
    amounts: dict[PeriodKey, list[Decimal]] = field(default_factory=dict)
    marks: set[PeriodKey] = field(default_factory=lambda: set(KEYS))

    def price(self, key: PeriodKey, terms: ChunkTerms) -> list[PeriodCharge]:
        number = KEYS.index(key)
        period = BillingPeriod(key, month(number + 1), "cust-1", "card", 1)
        usage = {"calls": MeterUsage(UsageDigest(1, D(self.quantities[number]), 1, 1), "")}
        return charges_of_period(period, CARD, usage, {}, so_far=terms.so_far(key))

    async def rate(self, chunk: Collection[PeriodKey]) -> None:
        """As one transaction does that has taken the marks of those periods."""
        self.marks.difference_update(chunk)
        terms = ChunkTerms(LENGTHS, TERMS, list(self.costs.values()))
        for key in sorted(chunk):
            charges = self.price(key, terms)
            self.amounts[key] = [charge.amount for charge in charges]
            terms.rated(key, charges)
        work: Any = SimpleNamespace(terms=self, queue=self)
        await terms.save(work, month(0))

    async def save(self, changed: Sequence[CommittedCost], gone: Sequence[CommittedCost]) -> None:
        self.costs |= {(cost.key, cost.price_id): cost for cost in changed}
        for cost in gone:
            del self.costs[cost.key, cost.price_id]

    async def mark(self, keys: Collection[PeriodKey], _now: datetime) -> None:
        self.marks |= set(keys)


async def in_order(quantities: Sequence[int]) -> Stored:
    stored = Stored(list(quantities))
    await stored.rate(KEYS)
    return stored


used = st.tuples(st.integers(0, COUNT - 1), st.integers(1, 90))


@given(st.lists(used, max_size=12), st.randoms(use_true_random=False))
async def test_any_order_of_usage_and_raters_comes_to_what_one_in_order_comes_to(
    usage: list[tuple[int, int]], chance: Random
) -> None:
    stored = Stored()
    left = list(usage)
    passes = 0
    while left or stored.marks:
        if left and chance.getrandbits(1):
            at, quantity = left.pop()
            stored.quantities[at] += quantity
            stored.marks.add(KEYS[at])
        elif stored.marks:
            chunk = chance.sample(sorted(stored.marks), chance.randint(1, len(stored.marks)))
            await stored.rate(chunk)
            passes += 1
        assert passes < 200, "it goes round in circles"

    wanted = await in_order(stored.quantities)
    assert wanted.marks == set()
    assert (stored.amounts, stored.costs) == (wanted.amounts, wanted.costs)


async def test_sums_that_no_amount_can_hold_fail_their_own_period_only() -> None:
    costs = [
        CommittedCost(KEYS[0], "calls", month(0), D(0), D("1E+127")),
        CommittedCost(KEYS[1], "calls", month(0), D(0), D("0.1")),
    ]
    so_far = ChunkTerms(LENGTHS, TERMS, costs).so_far(KEYS[2])
    assert so_far["calls"].used == D("1" + "0" * 127 + ".1")

    period = BillingPeriod(KEYS[2], month(3), "cust-1", "card", 1)
    problem = charges_of(period, CARD, {}, {}, {}, so_far, {})
    assert isinstance(problem, RatingProblem)
    assert problem.reason == "PRICING_FAILED"


async def test_only_later_periods_of_the_same_term_follow() -> None:
    stored = await in_order([10] * COUNT)
    stored.quantities[1] = 20
    await stored.rate([KEYS[1]])
    # Of "calls" the first term are months 0 to 3, of "all" 0 to 2.
    assert stored.marks == {KEYS[2], KEYS[3]}


async def test_nothing_follows_where_no_cost_has_changed() -> None:
    stored = await in_order([10] * COUNT)
    await stored.rate([KEYS[1], KEYS[0]])
    assert stored.marks == set()


async def test_a_price_that_is_gone_gives_back_what_it_had_used() -> None:
    stored = await in_order([60] * COUNT)
    terms = ChunkTerms(LENGTHS, TERMS, list(stored.costs.values()))
    terms.rated(KEYS[1], [])
    work: Any = SimpleNamespace(terms=stored, queue=stored)
    await terms.save(work, month(0))
    assert stored.marks == {KEYS[2], KEYS[3]}
    assert not any(key == KEYS[1] for key, _ in stored.costs)
