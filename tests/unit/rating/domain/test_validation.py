"""What is refused in a rate card, and under which field."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given

from services.rating.domain.model_validation import MAX_TIERS, check_model
from services.rating.domain.prices import Flat, Graduated, Package, PerUnit, PriceModel, Volume
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.validation import MAX_PRICES, check_price, check_rate_card
from tests.unit.rating.domain.prices import models, tier

ONE = Decimal(1)
CARD = RateCard("standard", 1, "EUR", None, (Price("p", PerUnit(ONE), "m"),))


def found_in_model(model: PriceModel) -> list[tuple[str, str]]:
    return [(violation.field, violation.reason) for violation in check_model(model, "prices[2]")]


def found_in_price(price: Price) -> list[tuple[str, str]]:
    return [(violation.field, violation.reason) for violation in check_price(price, "prices[2]")]


def found_in_card(card: RateCard) -> list[tuple[str, str]]:
    return [(violation.field, violation.reason) for violation in check_rate_card(card)]


class TestCheckModel:
    @given(models)
    def test_accepts_every_valid_model(self, model: PriceModel) -> None:
        assert found_in_model(model) == []

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            ("-0.01", "NEGATIVE"),
            ("NaN", "NOT_A_NUMBER"),
            ("Infinity", "NOT_A_NUMBER"),
            ("100000000000000000000", "TOO_MANY_DIGITS"),
            ("1E+999999", "TOO_MANY_DIGITS"),
            ("0.0000000000001", "TOO_PRECISE"),
            ("1E-999999", "TOO_PRECISE"),
        ],
    )
    def test_refuses_numbers_that_are_no_amounts(self, number: str, reason: str) -> None:
        bad = Decimal(number)

        assert found_in_model(Flat(bad)) == [("prices[2].flat.amount", reason)]
        assert found_in_model(PerUnit(bad)) == [("prices[2].per_unit.unit_amount", reason)]
        assert found_in_model(Package(bad, bad)) == [
            ("prices[2].package.package_size", reason),
            ("prices[2].package.package_amount", reason),
        ]
        assert found_in_model(Graduated((tier("1", number, number), tier(None, "1")))) == [
            ("prices[2].graduated.tiers[0].unit_amount", reason),
            ("prices[2].graduated.tiers[0].flat_amount", reason),
        ]
        assert found_in_model(Volume((tier(number, "1"), tier(None, "1")))) == [
            ("prices[2].volume.tiers[0].up_to", reason)
        ]

    @pytest.mark.parametrize("number", ["99999999999999999999.999999999999", "0E-99", "1.50000000000000000", "0E+99"])
    def test_limits_are_on_the_value_not_on_how_it_is_written(self, number: str) -> None:
        assert found_in_model(Flat(Decimal(number))) == []

    def test_a_package_has_a_size(self) -> None:
        assert found_in_model(Package(Decimal(0), ONE)) == [("prices[2].package.package_size", "NOT_POSITIVE")]

    @pytest.mark.parametrize("tiered", [Graduated, Volume])
    @pytest.mark.parametrize(
        ("bounds", "found"),
        [
            ([], [("", "REQUIRED")]),
            (["10"], [("[0].up_to", "LAST_TIER_BOUNDED")]),
            (["10", "10", None], [("[1].up_to", "NOT_INCREASING")]),
            (["10", "9", "11", None], [("[1].up_to", "NOT_INCREASING")]),
            (["0", None], [("[0].up_to", "NOT_POSITIVE")]),
            ([None, None], [("[0].up_to", "REQUIRED")]),
            ([None, "5"], [("[0].up_to", "REQUIRED"), ("[1].up_to", "LAST_TIER_BOUNDED")]),
        ],
    )
    def test_tiers_rise_and_the_last_is_open(
        self, tiered: type[Graduated | Volume], bounds: list[str | None], found: list[tuple[str, str]]
    ) -> None:
        path = f"prices[2].{tiered.__name__.lower()}.tiers"

        model = tiered(tuple(tier(bound, "1") for bound in bounds))

        assert found_in_model(model) == [(path + field, reason) for field, reason in found]

    def test_tiers_are_limited_in_number(self) -> None:
        most = (*(tier(str(bound), "1") for bound in range(1, MAX_TIERS)), tier(None, "1"))

        assert found_in_model(Graduated(most)) == []
        assert found_in_model(Graduated((tier("0.5", "1"), *most))) == [("prices[2].graduated.tiers", "TOO_MANY")]


class TestCheckPrice:
    def test_a_usage_price_needs_a_meter(self) -> None:
        assert found_in_price(Price("p", PerUnit(ONE))) == [("prices[2].meter_id", "REQUIRED")]
        assert found_in_price(Price("p", PerUnit(ONE), "a b")) == [("prices[2].meter_id", "INVALID_ID")]

    def test_a_flat_price_has_neither_meter_nor_included_usage(self) -> None:
        assert found_in_price(Price("p", Flat(ONE))) == []
        assert found_in_price(Price("p", Flat(ONE), "m")) == [("prices[2].meter_id", "NOT_ALLOWED")]
        assert found_in_price(Price("p", Flat(ONE), included_quantity=ONE)) == [
            ("prices[2].included_quantity", "NOT_ALLOWED")
        ]

    def test_names_every_violation(self) -> None:
        price = Price("", PerUnit(-ONE), "", included_quantity=-ONE, display_name="a\n")

        assert found_in_price(price) == [
            ("prices[2].price_id", "REQUIRED"),
            ("prices[2].display_name", "CONTROL_CHARACTER"),
            ("prices[2].meter_id", "REQUIRED"),
            ("prices[2].included_quantity", "NEGATIVE"),
            ("prices[2].per_unit.unit_amount", "NEGATIVE"),
        ]


class TestCheckRateCard:
    def test_accepts_a_card(self) -> None:
        assert found_in_card(replace(CARD, display_name="Standard 2026")) == []

    @pytest.mark.parametrize("currency", ["", "eur", "XXX", "EURO"])
    def test_refuses_unknown_currencies(self, currency: str) -> None:
        assert found_in_card(replace(CARD, currency=currency)) == [("currency", "UNKNOWN_CURRENCY")]

    def test_price_ids_name_one_line_each(self) -> None:
        card = replace(CARD, prices=(*CARD.prices, Price("q", Flat(ONE)), Price("p", Flat(ONE))))

        assert found_in_card(card) == [("prices[2].price_id", "NOT_UNIQUE")]

    def test_has_1_to_200_prices(self) -> None:
        prices = tuple(Price(f"p{number}", Flat(ONE)) for number in range(MAX_PRICES + 1))

        assert found_in_card(replace(CARD, prices=())) == [("prices", "REQUIRED")]
        assert found_in_card(replace(CARD, prices=prices[:-1])) == []
        assert found_in_card(replace(CARD, prices=prices)) == [("prices", "TOO_MANY")]

    def test_finds_what_is_wrong_inside_its_prices(self) -> None:
        card = replace(CARD, rate_card_id="a/b", display_name=" x", prices=(*CARD.prices, Price("q", Flat(-ONE))))

        assert found_in_card(card) == [
            ("rate_card_id", "INVALID_ID"),
            ("display_name", "SURROUNDING_BLANK"),
            ("prices[1].flat.amount", "NEGATIVE"),
        ]
