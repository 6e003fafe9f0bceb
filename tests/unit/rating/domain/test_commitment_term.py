"""Commitments over several billing periods: places in terms, and what the periods of a term cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.periods import Period, add_months
from services.rating.domain.charges import rate_card_charges
from services.rating.domain.commitment_term import CountedPeriod, Term, Terms, TermSoFar
from services.rating.domain.pipeline import rate_price
from services.rating.domain.price_terms import NO_TERMS, Commitment, CommitmentKind, PercentDiscount, PriceTerms
from services.rating.domain.prices import Flat, LinesBefore, PerUnit
from services.rating.domain.proration import PartOfPeriod, Proration
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind, RatedPrice
from services.rating.domain.terms_validation import check_terms
from services.rating.domain.validation import check_price

D = Decimal
YEAR = Commitment(CommitmentKind.AMOUNT, D(12_000), D("1.5"), periods=12)
CALLS = Price("calls", PerUnit(D("0.01")), "calls", terms=PriceTerms(commitment=YEAR))
usages = st.lists(st.integers(0, 400_000), min_size=12, max_size=12)


def month(number: int) -> datetime:
    """The start of the number-th month behind January 2026."""
    day = add_months(datetime(2026, 1, 1, tzinfo=UTC).date(), number, 1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def months(count: int, card: str = "a", first: int = 0) -> list[CountedPeriod]:
    return [CountedPeriod(month(n), month(n + 1), card, None) for n in range(first, first + count)]


def rate_term(price: Price, quantities: Sequence[int]) -> list[RatedPrice]:
    """Price the periods of one whole term, each with what the earlier ones have come to."""
    used, rated = D(0), []
    for number, quantity in enumerate(quantities, 1):
        rated.append(rate_price(price, D(quantity), so_far=TermSoFar(number, number == len(quantities), used)))
        used += rated[-1].before_commitment or D(0)
    return rated


def total(rated: Sequence[RatedPrice]) -> Decimal:
    return sum((period.amount for period in rated), D(0))


def shown(rated: RatedPrice) -> list[tuple[object, ...]]:
    return [(part.kind.value, part.quantity, part.amount, part.label) for part in rated.parts]


class TestPlaces:
    def test_are_counted_from_the_first_period_and_begin_anew_after_a_term(self) -> None:
        terms = Terms(months(5))
        assert [terms.term(month(n), 2) for n in range(5)] == [
            Term(month(0), 1, False),
            Term(month(0), 2, True),
            Term(month(2), 1, False),
            Term(month(2), 2, True),
            Term(month(4), 1, False),
        ]

    def test_a_gap_ends_a_term(self) -> None:
        terms = Terms([*months(1), *months(3, first=2)])
        assert [terms.term(month(n), 3) for n in (0, 2, 3, 4)] == [
            Term(month(0), 1, False),
            Term(month(2), 1, False),
            Term(month(2), 2, False),
            Term(month(2), 3, True),
        ]

    def test_another_card_in_between_ends_a_term(self) -> None:
        terms = Terms([*months(2), *months(1, "b", first=2), *months(2, first=3)])
        assert [terms.term(month(n), 12) for n in range(5)] == [
            Term(month(0), 1, False),
            Term(month(0), 2, False),
            Term(month(2), 1, False),
            Term(month(3), 1, False),
            Term(month(3), 2, False),
        ]

    def test_parts_of_a_whole_period_share_its_place_and_the_later_one_is_the_last(self) -> None:
        whole, middle = Period(month(1), month(2)), datetime(2026, 2, 10, tzinfo=UTC)
        parts = [CountedPeriod(month(1), middle, "a", whole), CountedPeriod(middle, month(2), "a", whole)]
        terms = Terms([*months(1), *parts, *months(1, first=2)])
        starts = [month(0), month(1), middle, month(2)]
        assert [terms.term(start, 2) for start in starts] == [
            Term(month(0), 1, False),
            Term(month(0), 2, False),
            Term(month(0), 2, True),
            Term(month(2), 1, False),
        ]

    def test_a_part_in_the_last_place_is_the_last_one_if_another_card_follows(self) -> None:
        whole, middle = Period(month(1), month(2)), datetime(2026, 2, 10, tzinfo=UTC)
        parts = [CountedPeriod(month(1), middle, "a", whole), CountedPeriod(middle, month(2), "b", whole)]
        terms = Terms([*months(1), *parts])
        assert terms.term(month(1), 2) == Term(month(0), 2, True)
        assert terms.term(middle, 2) == Term(middle, 1, False)

    def test_whole_periods_next_to_each_other_share_no_place(self) -> None:
        assert Terms(months(2)).term(month(1), 2).number == 2

    @given(st.integers(1, 40), st.integers(2, 13))
    def test_every_term_has_its_length_but_for_the_one_that_goes_on(self, count: int, length: int) -> None:
        terms = Terms(months(count))
        found = [terms.term(month(n), length) for n in range(count)]
        assert [term.start for term in found] == [month(n - n % length) for n in range(count)]
        assert [term.number for term in found] == [n % length + 1 for n in range(count)]
        assert [term.is_last for term in found] == [n % length == length - 1 for n in range(count)]

    @given(st.integers(1, 30), st.integers(2, 8))
    def test_earlier_ones_contain_those_of_the_term(self, count: int, length: int) -> None:
        terms = Terms(months(count))
        start = terms.term(month(count - 1), length).start
        earlier = terms.before(month(count - 1), length)
        assert [at for at in earlier if at >= start] == [month(n) for n in range(count - 1) if month(n) >= start]
        assert len(earlier) < length


class Piece(NamedTuple):
    """A month: whether there is one, and with which card each of its parts."""

    is_there: bool
    cards: list[str]


pieces = st.builds(
    Piece, st.sampled_from([True, True, True, False]), st.lists(st.sampled_from("aab"), min_size=1, max_size=3)
)


def counted(months: list[Piece]) -> tuple[list[CountedPeriod], dict[datetime, tuple[int, int]]]:
    """Periods, and in which run and place each of them lies, by its month: written as one would count on paper."""
    periods: list[CountedPeriod] = []
    places: dict[datetime, tuple[int, int]] = {}
    run, place, last = -1, 0, ("", -2)
    for number, (is_there, cards) in enumerate(months):
        if not is_there:
            continue
        whole = Period(month(number), month(number + 1)) if len(cards) > 1 else None
        cuts = [month(number) + timedelta(days=day) for day in range(len(cards))] + [month(number + 1)]
        for part, card in enumerate(cards):
            card_before, month_before = last
            if card != card_before or (part == 0 and month_before != number - 1):
                run, place = run + 1, 0
            elif part == 0:
                place += 1
            periods.append(CountedPeriod(cuts[part], cuts[part + 1], card, whole))
            places[cuts[part]] = run, place
            last = card, number
    return periods, places


class TestPlacesOnPaper:
    @given(st.lists(pieces, min_size=1, max_size=12), st.integers(2, 5))
    def test_are_those_of_the_terms(self, months: list[Piece], length: int) -> None:
        periods, places = counted(months)
        terms = Terms(periods)
        for start, (run, place) in places.items():
            same_term = [at for at, (r, p) in places.items() if r == run and p // length == place // length]
            is_last = place % length == length - 1 and start == max(same_term)
            assert terms.term(start, length) == Term(min(same_term), place % length + 1, is_last)
            earlier = terms.before(start, length)
            assert set(earlier) >= {at for at in same_term if at < start}
            assert all(places[at][0] == run and at < start for at in earlier)


class TestAmounts:
    def test_below_the_commitment_a_period_costs_what_it_costs(self) -> None:
        rated = rate_price(CALLS, D(100_000), so_far=TermSoFar(2, False, D(1_500)))
        assert [rated.amount, rated.before_commitment] == [1_000, 1_000]
        assert shown(rated) == [
            ("per_unit", 100_000, 1_000, ""),
            ("term_used", 1_500, 0, "period 2 of 12"),
            ("term_left", 10_500, 0, ""),
        ]

    def test_the_period_that_crosses_it_is_split(self) -> None:
        rated = rate_price(CALLS, D(100_000), so_far=TermSoFar(9, False, D("11_500.25")))
        assert rated.amount == D("499.75") + D("500.25") * D("1.5")
        assert shown(rated)[1:] == [
            ("term_used", D("11_500.25"), 0, "period 9 of 12"),
            ("term_left", D("499.75"), 0, ""),
            ("overage", D("500.25"), D("250.125"), ""),
        ]

    def test_above_it_everything_is_overage_and_nothing_is_left(self) -> None:
        rated = rate_price(CALLS, D(100_000), so_far=TermSoFar(10, False, D(13_000)))
        assert rated.amount == 1_500
        assert shown(rated)[2:] == [("term_left", 0, 0, ""), ("overage", 1_000, 500, "")]

    def test_the_last_period_owes_what_is_missing(self) -> None:
        rated = rate_price(CALLS, D(100_000), so_far=TermSoFar(12, True, D(3_000)))
        assert [rated.amount, rated.before_commitment] == [9_000, 1_000]
        assert shown(rated)[-1] == ("true_up", 1, 8_000, "")

    def test_without_true_up_it_does_not(self) -> None:
        price = replace(CALLS, terms=PriceTerms(commitment=replace(YEAR, true_up=False)))
        assert rate_price(price, D(100_000), so_far=TermSoFar(12, True, D(3_000))).amount == 1_000

    def test_minimums_count_and_discounts_do_not(self) -> None:
        terms = PriceTerms(minimum_amount=D(50), commitment=YEAR, discounts=(PercentDiscount(D(10)),))
        rated = rate_price(replace(CALLS, terms=terms), D(0), so_far=TermSoFar(1, False, D(0)))
        assert [rated.amount, rated.before_commitment] == [45, 50]

    def test_a_commitment_of_one_period_is_counted_by_nobody(self) -> None:
        price = replace(CALLS, terms=PriceTerms(commitment=replace(YEAR, periods=1)))
        rated = rate_price(price, D(100), so_far=TermSoFar(7, False, D(11_999)))
        assert [rated.amount, rated.before_commitment] == [12_000, None]
        assert PartKind.TERM_USED not in {part.kind for part in rated.parts}

    def test_lines_before_count_as_they_are_rounded(self) -> None:
        card = RateCard(
            "c",
            1,
            "USD",
            None,
            (
                Price("a", PerUnit(D("0.333")), "m"),
                Price("fee", Flat(D(10))),
                Price("year", LinesBefore(), terms=PriceTerms(commitment=replace(YEAR, value=D(100), periods=3))),
            ),
        )
        *_, first = rate_card_charges(card, {"m": D(1)}, so_far={"year": TermSoFar(1, False, D(0))})
        *_, crossing = rate_card_charges(card, {"m": D(1)}, so_far={"year": TermSoFar(2, False, D("94.67"))})
        *_, last = rate_card_charges(card, {"m": D(1)}, so_far={"year": TermSoFar(3, True, D("20.66"))})
        assert [first.amount, first.rated.before_commitment] == [0, D("10.33")]
        assert crossing.amount == D("2.5")  # Half of the 5.00 above it; the lines themselves are due as they are.
        assert last.amount == D("69.01")


class TestWholeTerm:
    @given(usages)
    def test_costs_what_one_period_with_all_of_the_usage_costs(self, quantities: list[int]) -> None:
        at_once = replace(CALLS, terms=PriceTerms(commitment=replace(YEAR, periods=1)))
        assert total(rate_term(CALLS, quantities)) == rate_price(at_once, D(sum(quantities))).amount

    @given(usages, st.randoms(use_true_random=False))
    def test_costs_the_same_in_whatever_months_the_usage_was(self, quantities: list[int], chance: Random) -> None:
        shuffled = list(quantities)
        chance.shuffle(shuffled)
        assert total(rate_term(CALLS, quantities)) == total(rate_term(CALLS, shuffled))

    @given(usages, st.integers(0, 11), st.integers(1, 10**6))
    def test_never_costs_less_with_more_usage(self, quantities: list[int], at: int, more: int) -> None:
        grown = [quantity + more * (number == at) for number, quantity in enumerate(quantities)]
        assert total(rate_term(CALLS, grown)) >= total(rate_term(CALLS, quantities)) >= YEAR.value

    @given(usages)
    def test_parts_add_up_to_the_amounts(self, quantities: list[int]) -> None:
        for period in rate_term(CALLS, quantities):
            assert sum(part.amount for part in period.parts) == period.amount

    @given(usages)
    def test_a_period_never_costs_less_than_before_its_commitment(self, quantities: list[int]) -> None:
        for period in rate_term(CALLS, quantities):
            assert period.before_commitment is not None
            assert period.amount >= period.before_commitment


class TestProration:
    def test_leaves_what_is_promised_for_the_term_as_it_is(self) -> None:
        whole = Period(month(0), month(1))
        part = PartOfPeriod(Period(datetime(2026, 1, 16, tzinfo=UTC), month(1)), whole, "UTC")
        price = replace(CALLS, included_quantity=D(31), proration=Proration.BY_DAY)
        (charge,) = rate_card_charges(RateCard("c", 1, "USD", None, (price,)), {"calls": D(116)}, shortened=part)
        left = [part.quantity for part in charge.rated.parts if part.kind is PartKind.TERM_LEFT]
        assert [charge.amount, *left] == [1, 12_000]

    def test_needs_something_else_that_is_for_one_period(self) -> None:
        (violation,) = check_terms(replace(CALLS, proration=Proration.BY_DAY))
        assert (violation.field, violation.reason) == ("price.proration", "NOT_ALLOWED")


class TestValidation:
    @pytest.mark.parametrize("periods", [2, 12, 60])
    def test_takes_two_to_sixty_periods(self, periods: int) -> None:
        assert check_price(committed(replace(YEAR, periods=periods))) == []

    @pytest.mark.parametrize("periods", [-1, 0, 61])
    def test_refuses_other_numbers(self, periods: int) -> None:
        (violation,) = check_price(committed(replace(YEAR, periods=periods)))
        assert (violation.field, violation.reason) == ("price.commitment.periods", "OUT_OF_RANGE")

    def test_refuses_a_quantity(self) -> None:
        (violation,) = check_price(committed(replace(YEAR, kind=CommitmentKind.QUANTITY)))
        assert (violation.field, violation.reason) == ("price.commitment.periods", "NOT_ALLOWED")

    def test_takes_one_of_several_prices(self) -> None:
        assert check_price(Price("year", LinesBefore(), terms=PriceTerms(commitment=YEAR))) == []


def committed(commitment: Commitment) -> Price:
    return replace(CALLS, terms=replace(NO_TERMS, commitment=commitment))
