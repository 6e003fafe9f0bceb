"""What is refused in the terms of a price, and under which field."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from libs.money import RoundingFunction
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
from services.rating.domain.prices import Flat, LinesBefore, Percentage, PerUnit
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price
from services.rating.domain.terms_validation import MAX_DISCOUNTS
from services.rating.domain.validation import check_price

ONE = Decimal(1)
PRICE = Price("p", PerUnit(ONE), "m")
DIVIDE, MULTIPLY = ConversionOperation.DIVIDE, ConversionOperation.MULTIPLY
AMOUNT, QUANTITY = CommitmentKind.AMOUNT, CommitmentKind.QUANTITY


def found(price: Price) -> list[tuple[str, str]]:
    return [(violation.field.removeprefix("price."), violation.reason) for violation in check_price(price)]


def found_in(**terms: Any) -> list[tuple[str, str]]:
    return found(replace(PRICE, terms=PriceTerms(**terms)))


@pytest.mark.parametrize(
    ("conversion", "expected"),
    [
        (UnitConversion(DIVIDE, Decimal(1024)), []),
        (UnitConversion(DIVIDE, Decimal(60)), [("unit_conversion.factor", "NOT_EXACT")]),
        (UnitConversion(DIVIDE, Decimal(60), RoundingFunction.CEIL, 2), []),
        (UnitConversion(MULTIPLY, Decimal(60)), []),
        (UnitConversion(MULTIPLY, Decimal(0)), [("unit_conversion.factor", "NOT_POSITIVE")]),
        (UnitConversion(DIVIDE, Decimal(-1)), [("unit_conversion.factor", "NEGATIVE")]),
        (UnitConversion(DIVIDE, ONE, RoundingFunction.CEIL, 13), [("unit_conversion.digits", "OUT_OF_RANGE")]),
        (UnitConversion(DIVIDE, ONE, RoundingFunction.CEIL, -21), [("unit_conversion.digits", "OUT_OF_RANGE")]),
    ],
)
def test_conversions_are_exact_or_rounded(conversion: UnitConversion, expected: list[tuple[str, str]]) -> None:
    assert found_in(conversion=conversion) == expected


def test_the_maximum_is_not_below_the_minimum() -> None:
    assert found_in(minimum_amount=ONE, maximum_amount=ONE) == []
    assert found_in(minimum_amount=ONE, maximum_amount=Decimal("0.99")) == [("maximum_amount", "BELOW_MINIMUM")]
    assert found_in(minimum_amount=-ONE) == [("minimum_amount", "NEGATIVE")]


def test_overage_never_costs_less() -> None:
    assert found_in(commitment=Commitment(AMOUNT, ONE, Decimal("0.9"))) == [("commitment.overage_factor", "BELOW_ONE")]
    assert found_in(commitment=Commitment(QUANTITY, Decimal(0))) == [("commitment.value", "NOT_POSITIVE")]


def test_a_quantity_of_a_percentage_price_cannot_be_committed() -> None:
    committed = PriceTerms(commitment=Commitment(QUANTITY, ONE))
    assert found(Price("p", Percentage(ONE), "m", terms=committed)) == [("commitment.kind", "NOT_ALLOWED")]


def test_discounts_take_something_and_no_more_than_all() -> None:
    wrong = (PercentDiscount(Decimal("100.1")), PercentDiscount(Decimal(0)), AmountDiscount(Decimal(0)))
    assert found_in(discounts=(PercentDiscount(Decimal(100)), AmountDiscount(ONE))) == []
    assert found_in(discounts=wrong) == [
        ("discounts[0].percent", "ABOVE_100"),
        ("discounts[1].percent", "NOT_POSITIVE"),
        ("discounts[2].amount", "NOT_POSITIVE"),
    ]
    assert found_in(discounts=(AmountDiscount(ONE),) * (MAX_DISCOUNTS + 1)) == [("discounts", "TOO_MANY")]


def test_a_flat_price_can_be_discounted_and_nothing_else() -> None:
    flat = Price("p", Flat(ONE))
    assert found(replace(flat, terms=PriceTerms(discounts=(PercentDiscount(ONE),)))) == []
    terms = PriceTerms(UnitConversion(MULTIPLY, ONE), ONE, ONE, Commitment(AMOUNT, ONE))
    assert found(replace(flat, terms=terms)) == [
        (name, "NOT_ALLOWED") for name in ("unit_conversion", "minimum_amount", "maximum_amount", "commitment")
    ]


def test_the_lines_before_are_money_and_need_terms() -> None:
    together = Price("p", LinesBefore())
    assert found(together) == [("lines_before", "REQUIRED")]
    assert found(replace(together, terms=PriceTerms(minimum_amount=ONE))) == []
    terms = PriceTerms(UnitConversion(MULTIPLY, ONE), commitment=Commitment(QUANTITY, ONE))
    assert found(replace(together, meter_id="m", terms=terms)) == [
        ("meter_id", "NOT_ALLOWED"),
        ("unit_conversion", "NOT_ALLOWED"),
        ("commitment.quantity", "NOT_ALLOWED"),
    ]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (PriceUnit("credits", Decimal("0.01")), []),
        (PriceUnit("", ONE), [("price_unit.name", "REQUIRED")]),
        (PriceUnit("two words", ONE), [("price_unit.name", "INVALID_ID")]),
        (PriceUnit("credits", Decimal(0)), [("price_unit.amount", "NOT_POSITIVE")]),
        (PriceUnit("credits", Decimal(-1)), [("price_unit.amount", "NEGATIVE")]),
        (PriceUnit("credits", Decimal("Infinity")), [("price_unit.amount", "NOT_A_NUMBER")]),
    ],
)
def test_a_unit_has_a_name_and_costs_something(unit: PriceUnit, expected: list[tuple[str, str]]) -> None:
    assert found_in(price_unit=unit) == expected


def test_what_has_to_be_money_has_no_unit() -> None:
    unit = PriceUnit("credits", ONE)
    together = Price("p", LinesBefore(), terms=PriceTerms(minimum_amount=ONE, price_unit=unit))
    assert found(together) == [("price_unit", "NOT_ALLOWED")]
    assert found_in(price_unit=unit, commitment=Commitment(AMOUNT, ONE, periods=12)) == [("price_unit", "NOT_ALLOWED")]
    assert found_in(price_unit=unit, commitment=Commitment(AMOUNT, ONE)) == []


def test_what_a_unit_costs_is_a_factor_too() -> None:
    price = Price("p", PerUnit(Decimal(10**19)), "m", terms=PriceTerms(price_unit=PriceUnit("c", Decimal(10**19))))
    assert found(price) == [("price", "TOO_MANY_DIGITS")]


@pytest.mark.parametrize(("percent", "expected"), [("10", []), ("10.1", [("price", "TOO_PRECISE")])])
def test_factors_together_have_a_limited_number_of_digits(percent: str, expected: list[tuple[str, str]]) -> None:
    """12 of the unit amount, 30 of the conversion to GiB; 10 % is 0.1, as 44 allow, and 10.1 % is 0.101."""
    terms = PriceTerms(
        UnitConversion(DIVIDE, Decimal(1 << 30)),
        discounts=(PercentDiscount(Decimal(percent)), PercentDiscount(Decimal(10))),
    )
    assert found(Price("p", PerUnit(Decimal("1E-12")), "m", terms=terms)) == expected


def test_large_factors_do_not_multiply_beyond_what_can_be_held() -> None:
    large = Decimal(10**19)
    price = Price("p", PerUnit(large), "m", terms=PriceTerms(UnitConversion(MULTIPLY, large)))
    assert found(price) == [("price", "TOO_MANY_DIGITS")]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        pytest.param(Price("p", Flat(ONE)), [], id="flat"),
        pytest.param(PRICE, [("proration", "NOT_ALLOWED")], id="per-unit"),
        pytest.param(replace(PRICE, included_quantity=ONE), [], id="included"),
        pytest.param(replace(PRICE, terms=PriceTerms(minimum_amount=ONE)), [], id="minimum"),
        pytest.param(replace(PRICE, terms=PriceTerms(maximum_amount=ONE)), [], id="maximum"),
        pytest.param(replace(PRICE, terms=PriceTerms(commitment=Commitment(AMOUNT, ONE))), [], id="commitment"),
        pytest.param(
            replace(PRICE, terms=PriceTerms(discounts=(AmountDiscount(ONE),))),
            [("proration", "NOT_ALLOWED")],
            id="discount",
        ),
    ],
)
def test_only_what_is_agreed_on_for_a_period_can_be_prorated(price: Price, expected: list[tuple[str, str]]) -> None:
    assert found(replace(price, proration=Proration.BY_DAY)) == expected
    assert found(price) == []
