"""Prices in parts of billing periods: what is shared, and what the breakdown says."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.money import plain
from libs.periods import BillingCycle, Period, find_zone, local_midnight
from services.rating.domain.charges import rate_card_charges
from services.rating.domain.price_terms import AmountDiscount, Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import Flat, LinesBefore, PerUnit
from services.rating.domain.prorated_price import for_share, has_shares
from services.rating.domain.proration import PartOfPeriod, Proration
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind, RatedPrice
from tests.unit.rating.domain.prices import any_prices

D = Decimal
BERLIN = find_zone("Europe/Berlin")
FEE = Price("fee", Flat(D(100)), proration=Proration.BY_DAY)
CALLS = Price("calls", PerUnit(D(1)), "calls", proration=Proration.BY_DAY)


def berlin(start: str, end: str) -> Period:
    return Period(*(local_midnight(date.fromisoformat(day), BERLIN) for day in (start, end)))


MARCH = berlin("2026-03-01", "2026-04-01")  # 31 days, of which the 29th has 23 hours.
FROM_15TH = PartOfPeriod(berlin("2026-03-15", "2026-04-01"), MARCH, "Europe/Berlin")


def rated(price: Price, quantity: str = "0", part: PartOfPeriod | None = FROM_15TH) -> RatedPrice:
    card = RateCard("card", 1, "EUR", None, (price,))
    (charge,) = rate_card_charges(card, {"calls": D(quantity)}, shortened=part)
    return charge.rated


def with_terms(**terms: Any) -> Price:
    return replace(CALLS, terms=PriceTerms(**terms))


class TestShares:
    def test_of_a_flat_amount(self) -> None:
        found = rated(FEE)

        assert found.amount == D("54.838709677419")  # 100 x 17 / 31
        assert [(part.kind, part.label, plain(part.quantity), plain(part.per)) for part in found.parts] == [
            (PartKind.PRORATED, "days", "17", "31"),
            (PartKind.FLAT, "", "1", "1"),
        ]

    def test_of_a_flat_amount_by_second(self) -> None:
        found = rated(replace(FEE, proration=Proration.BY_SECOND))

        assert found.parts[0].label == "seconds"
        assert found.parts[0].quantity == 17 * 86400 - 3600
        assert found.parts[0].per == 31 * 86400 - 3600
        assert found.amount == D("54.777927321669")  # 100 x 407 / 743 hours

    def test_are_none_by_default(self) -> None:
        assert rated(replace(FEE, proration=Proration.NONE)) == rated(FEE, part=None)
        assert rated(FEE, part=None).amount == 100

    def test_of_included_usage(self) -> None:
        price = replace(CALLS, included_quantity=D(62))

        assert rated(price, "40").amount == 6  # 62 x 17 / 31 are included.
        assert [part.kind for part in rated(price, "40").parts] == ["prorated", "included", "per_unit"]

    @pytest.mark.parametrize(
        ("price", "quantity", "amount"),
        [
            pytest.param(with_terms(minimum_amount=D(62)), "5", "34", id="minimum"),
            pytest.param(with_terms(maximum_amount=D(62)), "50", "34", id="maximum"),
            pytest.param(with_terms(commitment=Commitment(CommitmentKind.AMOUNT, D(62))), "5", "34", id="true-up"),
            pytest.param(
                with_terms(commitment=Commitment(CommitmentKind.AMOUNT, D(62), D(2))), "50", "66", id="overage"
            ),
            pytest.param(
                replace(with_terms(commitment=Commitment(CommitmentKind.QUANTITY, D(62))), model=PerUnit(D(3))),
                "5",
                "102",
                id="committed-quantity",
            ),
            pytest.param(
                replace(with_terms(minimum_amount=D(62), discounts=(AmountDiscount(D(10)),))),
                "5",
                "24",
                id="a-discount-stays",
            ),
        ],
    )
    def test_of_terms(self, price: Price, quantity: str, amount: str) -> None:
        assert rated(price, quantity).amount == D(amount)

    def test_of_terms_for_several_lines(self) -> None:
        minimum = Price("m", LinesBefore(), terms=PriceTerms(minimum_amount=D(620)), proration=Proration.BY_DAY)
        card = RateCard("card", 1, "EUR", None, (FEE, minimum))
        charges = rate_card_charges(card, {}, shortened=FROM_15TH)

        assert [charge.amount for charge in charges] == [D("54.838709677419"), D("285.16")]  # 340 - 54.84

    def test_each_price_has_its_own_policy(self) -> None:
        prices = [replace(FEE, price_id=policy.value, proration=policy) for policy in Proration]
        charges = rate_card_charges(RateCard("c", 1, "EUR", None, tuple(prices)), {}, shortened=FROM_15TH)

        assert [plain(charge.amount) for charge in charges] == ["100", "54.838709677419", "54.777927321669"]

    def test_leave_the_price_of_a_charge_as_the_card_has_it(self) -> None:
        (charge,) = rate_card_charges(RateCard("c", 1, "EUR", None, (FEE,)), {}, shortened=FROM_15TH)

        assert charge.price == FEE


def test_a_part_that_is_no_shorter_by_its_policy_costs_all_of_it() -> None:
    but_an_hour = Period(MARCH.start + timedelta(hours=1), MARCH.end)
    part = PartOfPeriod(but_an_hour, MARCH, "Europe/Berlin")

    assert rated(FEE, part=part) == rated(FEE, part=None)
    assert rated(replace(FEE, proration=Proration.BY_SECOND), part=part).amount < 100


@given(any_prices)
def test_all_of_it_is_the_price_itself(price: Price) -> None:
    assert for_share(price, Fraction(1)) == price


@given(any_prices, st.fractions(0, 1))
def test_only_what_is_agreed_on_for_a_period_is_shared(price: Price, share: Fraction) -> None:
    shared = for_share(price, share)
    terms = replace(price.terms, minimum_amount=None, maximum_amount=None, commitment=None)

    assert (shared == price) or has_shares(price)
    assert shared.included_quantity <= price.included_quantity
    kept = replace(shared.terms, minimum_amount=None, maximum_amount=None, commitment=None)
    assert (kept, shared.options, shared.meter_id) == (terms, price.options, price.meter_id)
    assert isinstance(price.model, Flat) or shared.model == price.model


@settings(max_examples=200)
@given(
    st.dates(date(1990, 1, 1), date(2050, 1, 1)),
    st.integers(1, 31),
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu", "UTC"]),
    st.lists(st.integers(1, 30), max_size=4),
    st.sampled_from([Proration.BY_DAY, Proration.BY_SECOND]),
    st.decimals(0, 10**9, places=2),
)
def test_amounts_of_all_parts_are_the_whole_amount(
    starts_on: date, anchor_day: int, zone_name: str, cuts: list[int], policy: Proration, amount: Decimal
) -> None:
    zone = find_zone(zone_name)
    if local_midnight(starts_on, zone) == local_midnight(starts_on + timedelta(days=1), zone):
        return  # A day that the zone left out.
    whole = BillingCycle(starts_on, anchor_day, zone).period_at_index(1)
    first = whole.start.astimezone(zone).date()
    midnights = {local_midnight(first + timedelta(days=cut), zone) for cut in cuts}
    edges = sorted({whole.start, whole.end, *(at for at in midnights if whole.start < at < whole.end)})
    price = Price("fee", Flat(amount), proration=policy)

    parts = [PartOfPeriod(Period(*edge), whole, zone_name) for edge in pairwise(edges)]
    total = sum((rated(price, part=part).amount for part in parts), D(0))

    assert abs(total - amount) <= len(parts) * D("0.5e-12")
