"""Charges of a rate card: one per price, in order, included usage first."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given

from libs.money import exact, plain
from services.rating.domain.charges import rate_card_charges
from services.rating.domain.pipeline import rate_price
from services.rating.domain.prices import Flat, Graduated, Package, PerUnit, PriceModel
from services.rating.domain.pricing import amount_of
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind
from tests.unit.rating.domain.prices import models, quantities, signed_quantities, tier

CARD = RateCard(
    "standard",
    version=3,
    currency="USD",
    effective_at=None,
    prices=(
        Price("base", Flat(Decimal(20))),
        Price("input_tokens", PerUnit(Decimal("0.000003")), "input", included_quantity=Decimal(1_000_000)),
        Price("output_tokens", PerUnit(Decimal("0.000015")), "output"),
        Price("requests", Package(Decimal(1000), Decimal("0.40")), "requests"),
    ),
)


class TestRateCardCharges:
    def test_one_charge_per_price_in_the_order_of_the_card(self) -> None:
        usage = {"output": Decimal(200_000), "input": Decimal(3_000_000), "requests": Decimal(1001)}

        charges = rate_card_charges(CARD, usage)

        assert [
            (charge.position, charge.price_id, charge.meter_id, plain(charge.quantity), plain(charge.amount))
            for charge in charges
        ] == [
            (0, "base", None, "1", "20"),
            (1, "input_tokens", "input", "3000000", "6"),
            (2, "output_tokens", "output", "200000", "3"),
            (3, "requests", "requests", "1001", "0.8"),
        ]

    def test_a_meter_without_usage_is_charged_as_zero(self) -> None:
        assert [plain(charge.amount) for charge in rate_card_charges(CARD, {})] == ["20", "0", "0", "0"]

    def test_meters_that_no_price_names_are_not_charged(self) -> None:
        assert rate_card_charges(CARD, {"storage": Decimal(7)}) == rate_card_charges(CARD, {})

    def test_prices_may_share_a_meter(self) -> None:
        card = replace(CARD, prices=(Price("a", PerUnit(Decimal(1)), "m"), Price("b", PerUnit(Decimal(2)), "m")))

        assert [charge.amount for charge in rate_card_charges(card, {"m": Decimal(5)})] == [5, 10]

    @given(quantities, quantities)
    def test_is_a_function_of_its_arguments(self, first: Decimal, second: Decimal) -> None:
        usage = {"input": first, "output": second}

        assert rate_card_charges(CARD, usage) == rate_card_charges(CARD, dict(reversed(usage.items())))


class TestIncludedUsage:
    def test_is_a_free_part_before_the_model(self) -> None:
        price = Price("p", Graduated((tier("10", "1"), tier(None, "2"))), "m", included_quantity=Decimal(100))

        rated = rate_price(price, Decimal(115))

        assert [(part.kind, plain(part.quantity), plain(part.amount)) for part in rated.parts] == [
            (PartKind.INCLUDED, "100", "0"),
            (PartKind.TIER, "10", "10"),
            (PartKind.TIER, "5", "10"),
        ]
        assert rated.amount == 20

    def test_is_at_most_what_was_used(self) -> None:
        price = Price("p", PerUnit(Decimal(1)), "m", included_quantity=Decimal(100))

        assert [part.quantity for part in rate_price(price, Decimal(40)).parts] == [40, 0]
        assert [part.quantity for part in rate_price(price, Decimal(-40)).parts] == [0]

    def test_comes_off_before_packages_are_counted(self) -> None:
        price = Price("p", Package(Decimal(100), Decimal(5)), "m", included_quantity=Decimal(100))

        assert rate_price(price, Decimal(201)).amount == 10

    @given(models, quantities, signed_quantities)
    def test_a_price_with_included_usage_costs_what_the_rest_costs(
        self, model: PriceModel, included: Decimal, quantity: Decimal
    ) -> None:
        price = Price("p", model, "m", included_quantity=included)
        with exact():
            rest = max(Decimal(0), quantity - included)

        rated = rate_price(price, quantity)

        assert rated.amount == amount_of(model, rest)
        if isinstance(model, PerUnit | Graduated):
            with exact():
                assert sum(part.quantity for part in rated.parts) == max(Decimal(0), quantity)
