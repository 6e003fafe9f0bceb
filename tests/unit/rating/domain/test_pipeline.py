"""What a price agrees on beside its model, and the order in which that acts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import RoundingFunction, exact, plain
from services.rating.domain.pipeline import rate_lines_before, rate_price
from services.rating.domain.price_terms import (
    AmountDiscount,
    Commitment,
    CommitmentKind,
    ConversionOperation,
    PercentDiscount,
    PriceTerms,
    UnitConversion,
)
from services.rating.domain.price_unit import PriceUnit
from services.rating.domain.prices import Package, PerUnit
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import PartKind
from tests.unit.rating.domain.prices import prices, prices_in_units, signed_quantities, terms

TWO = PerUnit(Decimal(2))
GIB = UnitConversion(ConversionOperation.DIVIDE, Decimal(1 << 30))
STARTED_THOUSANDS = UnitConversion(ConversionOperation.DIVIDE, Decimal(1000), RoundingFunction.CEIL)


def steps(quantity: str, *, included: str = "0", **terms: Any) -> list[tuple[PartKind, str, str]]:
    """Kind, quantity and amount of what a price of 2 a unit shows."""
    price = Price("p", TWO, "m", Decimal(included), terms=PriceTerms(**terms))
    return [
        (part.kind, plain(part.quantity), plain(part.amount)) for part in rate_price(price, Decimal(quantity)).parts
    ]


def amount(quantity: str, **terms: Any) -> str:
    return plain(rate_price(Price("p", TWO, "m", terms=PriceTerms(**terms)), Decimal(quantity)).amount)


class TestConversion:
    def test_is_exact_or_rounded_once(self) -> None:
        assert steps("1610612736", conversion=GIB) == [
            (PartKind.CONVERTED, "1.5", "0"),
            (PartKind.PER_UNIT, "1.5", "3"),
        ]
        assert amount("1001", conversion=STARTED_THOUSANDS) == "4"

    def test_thirds_are_rounded_once(self) -> None:
        thirds = UnitConversion(ConversionOperation.DIVIDE, Decimal(3), RoundingFunction.ROUND, 2)
        assert amount("1", conversion=thirds) == "0.66"
        assert amount("2", conversion=thirds) == "1.34"

    def test_comes_before_what_is_included(self) -> None:
        assert steps("2500", conversion=STARTED_THOUSANDS, included="1") == [
            (PartKind.CONVERTED, "3", "0"),
            (PartKind.INCLUDED, "1", "0"),
            (PartKind.PER_UNIT, "2", "4"),
        ]


class TestLimits:
    @pytest.mark.parametrize(
        ("quantity", "expected"), [("0", "10"), ("4", "10"), ("5", "10"), ("6", "12"), ("9", "15")]
    )
    def test_lie_between_minimum_and_maximum(self, quantity: str, expected: str) -> None:
        assert amount(quantity, minimum_amount=Decimal(10), maximum_amount=Decimal(15)) == expected

    def test_are_shown(self) -> None:
        assert steps("1", minimum_amount=Decimal(10))[1:] == [(PartKind.MINIMUM, "1", "8")]
        assert steps("9", maximum_amount=Decimal(10))[1:] == [(PartKind.MAXIMUM, "1", "-8")]


class TestCommitment:
    TEN = Commitment(CommitmentKind.AMOUNT, Decimal(10), Decimal("1.5"))

    @pytest.mark.parametrize(("quantity", "expected"), [("0", "10"), ("3", "10"), ("5", "10"), ("7", "16")])
    def test_what_is_missing_is_due_and_what_is_above_costs_more(self, quantity: str, expected: str) -> None:
        assert amount(quantity, commitment=self.TEN) == expected

    def test_is_shown(self) -> None:
        assert steps("7", commitment=self.TEN)[1:] == [(PartKind.OVERAGE, "4", "2")]
        assert steps("3", commitment=self.TEN)[1:] == [(PartKind.TRUE_UP, "1", "4")]

    def test_without_true_up_nothing_is_missing(self) -> None:
        assert amount("3", commitment=Commitment(CommitmentKind.AMOUNT, Decimal(10), true_up=False)) == "6"

    def test_a_quantity_is_committed_at_its_price(self) -> None:
        commitment = Commitment(CommitmentKind.QUANTITY, Decimal(250), Decimal(2))
        price = Price("p", Package(Decimal(100), Decimal(1)), "m", terms=PriceTerms(commitment=commitment))
        assert [rate_price(price, Decimal(used)).amount for used in (10, 300, 301)] == [3, 3, 5]


class TestDiscounts:
    def test_are_taken_off_one_after_the_other(self) -> None:
        half, three = PercentDiscount(Decimal(50)), AmountDiscount(Decimal(3))
        assert amount("5", discounts=(half, three)) == "2"
        assert amount("5", discounts=(three, half)) == "3.5"
        assert steps("5", discounts=(half, three))[1:] == [
            (PartKind.DISCOUNT, "10", "-5"),
            (PartKind.DISCOUNT, "1", "-3"),
        ]

    def test_never_leave_less_than_nothing(self) -> None:
        assert amount("1", discounts=(AmountDiscount(Decimal(3)), PercentDiscount(Decimal(10)))) == "0"

    def test_come_after_minimum_and_commitment(self) -> None:
        commitment = Commitment(CommitmentKind.AMOUNT, Decimal(20))
        terms: dict[str, Any] = {
            "minimum_amount": Decimal(10),
            "commitment": commitment,
            "discounts": (PercentDiscount(Decimal(10)),),
        }
        assert [kind for kind, _, _ in steps("1", **terms)] == [
            PartKind.PER_UNIT,
            PartKind.MINIMUM,
            PartKind.TRUE_UP,
            PartKind.DISCOUNT,
        ]
        assert amount("1", **terms) == "18"


class TestLinesBefore:
    @given(st.integers(0, 10**9), terms.filter(lambda agreed: agreed.conversion is None))
    def test_come_to_what_the_terms_make_of_their_sum(self, cents: int, agreed: PriceTerms) -> None:
        """As a price does whose model costs that much."""
        if agreed.commitment is not None:
            agreed = replace(agreed, commitment=replace(agreed.commitment, kind=CommitmentKind.AMOUNT))
        amount = Decimal(cents).scaleb(-2)

        together = rate_lines_before(agreed, amount)

        alone = rate_price(Price("p", PerUnit(Decimal(1)), "m", terms=agreed), amount)
        with exact():
            assert amount + together.amount == alone.amount >= 0
            assert sum(part.amount for part in together.parts) == together.amount
        assert together.parts == alone.parts[1:]


class TestPriceUnit:
    CREDITS = PriceUnit("credits", Decimal("0.01"))

    def test_comes_last(self) -> None:
        terms: dict[str, Any] = {
            "minimum_amount": Decimal(100),
            "discounts": (PercentDiscount(Decimal(10)),),
            "price_unit": self.CREDITS,
        }
        assert steps("5", **terms) == [
            (PartKind.PER_UNIT, "5", "10"),
            (PartKind.MINIMUM, "1", "90"),
            (PartKind.DISCOUNT, "100", "-10"),
            (PartKind.PRICE_UNIT, "90", "-89.1"),
        ]
        assert amount("5", **terms) == "0.9"

    @given(prices_in_units(), signed_quantities)
    def test_costs_so_many_units_and_nothing_else(self, price: Price, quantity: Decimal) -> None:
        unit = price.terms.price_unit
        assert unit is not None
        in_units = rate_price(replace(price, terms=replace(price.terms, price_unit=None)), quantity)

        rated = rate_price(price, quantity)

        with exact():
            assert rated.amount == in_units.amount * unit.amount
            assert sum(part.amount for part in rated.parts) == rated.amount
            last = rated.parts[-1]
            assert last.amount == last.quantity * last.unit_amount + last.flat_amount
        assert rated.parts[:-1] == in_units.parts
        assert (last.label, last.quantity) == (unit.name, in_units.amount)


class TestEveryPrice:
    @given(prices(), signed_quantities, st.integers(0, 10**12))
    def test_is_priced_and_its_parts_add_up(self, price: Price, quantity: Decimal, event_count: int) -> None:
        rated = rate_price(price, quantity, event_count)

        with exact():
            assert sum(part.amount for part in rated.parts) == rated.amount
        assert rated.amount >= 0

    @given(prices(), signed_quantities)
    def test_fits_what_other_services_can_hold(self, price: Price, quantity: Decimal) -> None:
        written = plain(rate_price(price, quantity).amount).partition(".")
        assert len(written[0]) <= 60
        assert len(written[2]) <= 60

    @given(prices(), signed_quantities)
    def test_costs_what_was_agreed_on_before_discounts(self, price: Price, quantity: Decimal) -> None:
        discounted = [part for part in rate_price(price, quantity).parts if part.kind is PartKind.DISCOUNT]
        with exact():
            before = rate_price(price, quantity).amount - sum((part.amount for part in discounted), Decimal(0))
        minimum = price.terms.minimum_amount
        assert minimum is None or before >= minimum
        if (maximum := price.terms.maximum_amount) is not None and price.terms.commitment is None:
            assert before <= maximum
