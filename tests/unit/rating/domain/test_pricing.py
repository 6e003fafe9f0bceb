"""The price models: amounts, breakdowns, and what holds for all of them."""

from __future__ import annotations

import decimal
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import exact, plain
from services.rating.domain.prices import (
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Matrix,
    MatrixRow,
    NegativeQuantity,
    Package,
    PackageRounding,
    Percentage,
    PercentageTier,
    PerUnit,
    PriceModel,
    PricingOptions,
    Stairstep,
    Step,
    Volume,
    ZeroQuantityFlat,
)
from services.rating.domain.pricing import amount_of, rate
from services.rating.domain.pricing.matrix import rate_matrix
from services.rating.domain.rated_price import (
    NegativeQuantityRefused,
    PartKind,
    QuantityOutsideTiers,
    RatedPart,
    RatedPrice,
)
from services.rating.domain.usage import DimensionedQuantity
from tests.unit.rating.domain.prices import models, options, quantities, signed_quantities, tier

TIERS = (tier("10", "0.10", "1"), tier("100", "0.05"), tier(None, "0.01", "5"))
NO_CHARGE_AT_ZERO = PricingOptions(zero_quantity_flat=ZeroQuantityFlat.NO_CHARGE)
REFUSE_NEGATIVE = PricingOptions(negative_quantity=NegativeQuantity.ERROR)


def amount(model: PriceModel, quantity: str) -> str:
    return plain(rate(model, Decimal(quantity)).amount)


class TestFlat:
    @pytest.mark.parametrize("quantity", ["0", "1", "1000"])
    def test_is_due_whatever_the_usage(self, quantity: str) -> None:
        rated = rate(Flat(Decimal("49.90")), Decimal(quantity))

        part = RatedPart(PartKind.FLAT, quantity=Decimal(1), unit_amount=Decimal("49.9"), amount=Decimal("49.9"))
        assert rated == RatedPrice(Decimal("49.9"), (part,))


class TestPerUnit:
    @pytest.mark.parametrize(("quantity", "expected"), [("0", "0"), ("3", "0.000003"), ("1234567.5", "1.2345675")])
    def test_prices_every_fraction_of_a_unit(self, quantity: str, expected: str) -> None:
        assert amount(PerUnit(Decimal("0.000001")), quantity) == expected

    def test_keeps_all_digits_at_the_limits(self) -> None:
        largest = Decimal("99999999999999999999.999999999999")

        rated = rate(PerUnit(largest), largest)

        assert plain(rated.amount) == "9999999999999999999999999999999800000000.000000000000000000000001"


class TestPackage:
    @pytest.mark.parametrize(
        ("quantity", "packages"), [("0", "0"), ("0.001", "1"), ("1000", "1"), ("1000.001", "2"), ("2500", "3")]
    )
    def test_a_started_package_is_due_in_full(self, quantity: str, packages: str) -> None:
        (part,) = rate(Package(size=Decimal(1000), amount=Decimal("0.40")), Decimal(quantity)).parts

        assert (part.kind, plain(part.quantity)) == (PartKind.PACKAGE, packages)
        assert part.amount == Decimal(packages) * Decimal("0.40")

    def test_sizes_may_be_fractions(self) -> None:
        assert amount(Package(size=Decimal("0.3"), amount=Decimal(1)), "1") == "4"


class TestGraduated:
    @pytest.mark.parametrize(
        ("quantity", "expected"),
        [("0", "1"), ("4", "1.4"), ("10", "2"), ("10.5", "2.025"), ("100", "6.5"), ("101", "11.51"), ("1000", "20.5")],
    )
    def test_each_tier_prices_the_units_inside_it(self, quantity: str, expected: str) -> None:
        assert amount(Graduated(TIERS), quantity) == expected

    def test_shows_every_tier_reached(self) -> None:
        rated = rate(Graduated(TIERS), Decimal(101))

        assert [(part.from_quantity, part.up_to_quantity, part.quantity, part.amount) for part in rated.parts] == [
            (Decimal(0), Decimal(10), Decimal(10), Decimal("2")),
            (Decimal(10), Decimal(100), Decimal(90), Decimal("4.5")),
            (Decimal(100), None, Decimal(1), Decimal("5.01")),
        ]
        assert [part.flat_amount for part in rated.parts] == [Decimal(1), Decimal(0), Decimal(5)]

    def test_a_bound_still_belongs_to_the_tier_below_it(self) -> None:
        assert len(rate(Graduated(TIERS), Decimal(10)).parts) == 1
        assert len(rate(Graduated(TIERS), Decimal("10.000000000001")).parts) == 2

    def test_refuses_a_quantity_beyond_a_bounded_last_tier(self) -> None:
        bounded = Graduated((tier("10", "1"),))

        assert amount(bounded, "10") == "10"
        with pytest.raises(QuantityOutsideTiers):
            rate(bounded, Decimal(11))
        with pytest.raises(QuantityOutsideTiers):
            amount_of(bounded, Decimal(11))


class TestVolume:
    @pytest.mark.parametrize(
        ("quantity", "expected"), [("0", "1"), ("10", "2"), ("10.5", "0.525"), ("100", "5"), ("101", "6.01")]
    )
    def test_one_tier_prices_the_whole_quantity(self, quantity: str, expected: str) -> None:
        assert amount(Volume(TIERS), quantity) == expected

    def test_shows_the_tier_that_was_used(self) -> None:
        (part,) = rate(Volume(TIERS), Decimal(50)).parts

        assert part == RatedPart(
            PartKind.TIER,
            quantity=Decimal(50),
            unit_amount=Decimal("0.05"),
            amount=Decimal("2.5"),
            from_quantity=Decimal(10),
            up_to_quantity=Decimal(100),
        )

    def test_refuses_a_quantity_beyond_a_bounded_last_tier(self) -> None:
        with pytest.raises(QuantityOutsideTiers):
            rate(Volume((tier("10", "1"),)), Decimal(11))
        with pytest.raises(QuantityOutsideTiers):
            amount_of(Volume((tier("10", "1"),)), Decimal(11))


class TestOptions:
    @pytest.mark.parametrize("model", [Graduated(TIERS), Volume(TIERS)])
    def test_the_first_tiers_flat_amount_at_zero_is_a_convention(self, model: PriceModel) -> None:
        assert rate(model, Decimal(0)).amount == 1
        assert rate(model, Decimal(0), NO_CHARGE_AT_ZERO) == RatedPrice(Decimal(0), ())
        assert rate(model, Decimal("0.1"), NO_CHARGE_AT_ZERO) == rate(model, Decimal("0.1"))

    def test_a_negative_quantity_can_be_refused(self) -> None:
        with pytest.raises(NegativeQuantityRefused):
            rate(PerUnit(Decimal(1)), Decimal("-0.1"), REFUSE_NEGATIVE)
        with pytest.raises(NegativeQuantityRefused):
            amount_of(PerUnit(Decimal(1)), Decimal("-0.1"), REFUSE_NEGATIVE)

    @given(models, signed_quantities.filter(lambda quantity: quantity < 0))
    def test_a_negative_quantity_counts_as_zero_by_default(self, model: PriceModel, quantity: Decimal) -> None:
        assert rate(model, quantity) == rate(model, Decimal(0))


class TestPerUnits:
    def test_a_price_of_many_units_prices_fractions_of_them_too(self) -> None:
        assert amount(PerUnit(Decimal("0.50"), Decimal(1000)), "1234") == "0.617"
        assert amount(PerUnit(Decimal("0.09"), Decimal(1 << 30)), "1") == "0.00000000008381903171539306640625"


class TestPartialPackages:
    @pytest.mark.parametrize(("quantity", "up", "down"), [("0", "0", "0"), ("99", "1", "0"), ("200", "2", "2")])
    def test_may_be_due_or_free(self, quantity: str, up: str, down: str) -> None:
        size, one = Decimal(100), Decimal(1)
        assert amount(Package(size, one), quantity) == up
        assert amount(Package(size, one, PackageRounding.DOWN), quantity) == down


class TestCaps:
    def test_a_tier_costs_no_more_than_its_cap_with_its_flat_amount(self) -> None:
        capped = tuple(replace(one, cap_amount=Decimal("1.5")) for one in TIERS)
        assert amount(Graduated(capped), "100") == "3"
        assert amount(Graduated(capped), "2") == "1.2"
        assert amount(Volume(capped), "90") == "1.5"


class TestStairstep:
    STEPS = Stairstep((Step(Decimal(5), Decimal(10)), Step(Decimal(20), Decimal(30)), Step(None, Decimal(100))))

    @pytest.mark.parametrize(
        ("quantity", "expected"), [("0", "10"), ("5", "10"), ("5.1", "30"), ("20", "30"), ("1000", "100")]
    )
    def test_the_step_of_the_whole_quantity_counts_alone(self, quantity: str, expected: str) -> None:
        assert amount(self.STEPS, quantity) == expected

    def test_nothing_used_may_be_free(self) -> None:
        assert rate(self.STEPS, Decimal(0), NO_CHARGE_AT_ZERO).amount == 0

    def test_shows_where_the_step_lies(self) -> None:
        (part,) = rate(self.STEPS, Decimal(7)).parts
        assert part.kind is PartKind.STEP
        assert [part.quantity, part.from_quantity, part.up_to_quantity] == [Decimal(7), Decimal(5), Decimal(20)]


class TestMoneyAsQuantity:
    def test_a_percentage_and_an_amount_for_each_event(self) -> None:
        rated = rate(Percentage(Decimal("2.9"), Decimal("0.30")), Decimal("150.00"), event_count=3)
        assert [(part.kind, plain(part.amount)) for part in rated.parts] == [
            (PartKind.PERCENTAGE, "4.35"),
            (PartKind.EVENTS, "0.9"),
        ]
        assert plain(rated.amount) == "5.25"

    def test_tiers_of_percentages(self) -> None:
        tiers = (PercentageTier(Decimal(100), Decimal(5)), PercentageTier(None, Decimal(2), Decimal(10)))
        assert amount(GraduatedPercentage(tiers), "150") == "16"

    def test_what_events_say_they_cost(self) -> None:
        assert amount(Dynamic(Decimal("1.2")), "10.05") == "12.06"


class TestMatrix:
    EU, LARGE, BOTH = (("region", "eu"),), (("size", "l"),), (("region", "eu"), ("size", "l"))
    PRICE = Matrix(
        (MatrixRow(EU, Decimal(2)), MatrixRow(LARGE, Decimal(3)), MatrixRow(BOTH, Decimal(5))), Decimal(1), Decimal(10)
    )

    def rated(self, *usage: tuple[str, str], **options: Any) -> list[tuple[str, str, str]]:
        """Of pairs of dimensions (as name=value,...) and quantity."""
        given = [
            DimensionedQuantity(dict(part.split("=") for part in text.split(",") if part), Decimal(quantity))
            for text, quantity in usage
        ]
        found = rate_matrix(self.PRICE, given, PricingOptions(**options))
        with exact():
            assert sum(part.amount for part in found.parts) == found.amount
        return [(part.label, plain(part.quantity), plain(part.amount)) for part in found.parts]

    def test_the_row_that_names_most_dimensions_counts(self) -> None:
        assert self.rated(("region=eu,size=l", "10"), ("region=eu,size=s", "20"), ("region=us,size=l", "30")) == [
            ("region=eu", "20", "4"),
            ("size=l", "30", "9"),
            ("region=eu, size=l", "10", "5"),
        ]

    def test_what_no_row_names_has_the_default(self) -> None:
        assert self.rated(("region=us", "10"), ("", "5")) == [("other", "15", "1.5")]

    def test_of_rows_that_name_as_many_the_first_counts(self) -> None:
        price = Matrix(self.PRICE.rows[:2], Decimal(1))
        found = rate_matrix(price, [DimensionedQuantity({"region": "eu", "size": "l"}, Decimal(1))], PricingOptions())
        assert found.amount == 2

    def test_a_rows_quantities_are_added_before_they_are_priced(self) -> None:
        assert self.rated(("region=eu,size=m", "-5"), ("region=eu,size=s", "15")) == [("region=eu", "10", "2")]
        assert self.rated(("region=eu", "-5"), ("size=l", "10")) == [("region=eu", "0", "0"), ("size=l", "10", "3")]
        with pytest.raises(NegativeQuantityRefused):
            self.rated(("region=eu", "-5"), negative_quantity=NegativeQuantity.ERROR)


class TestEveryModel:
    @given(models, signed_quantities, options)
    def test_the_fast_path_gives_the_amount_of_the_breakdown(
        self, model: PriceModel, quantity: Decimal, options: PricingOptions
    ) -> None:
        assert amount_of(model, quantity, options) == rate(model, quantity, options).amount

    @given(models, quantities, options)
    def test_the_parts_add_up_exactly(self, model: PriceModel, quantity: Decimal, options: PricingOptions) -> None:
        rated = rate(model, quantity, options)

        with exact():
            assert sum(part.amount for part in rated.parts) == rated.amount
            for part in rated.parts:
                full = part.quantity * part.unit_amount / part.per + part.flat_amount
                assert part.amount == full or (part.amount < full and isinstance(model, Graduated | Volume))

    @given(models, quantities)
    def test_no_usage_is_priced_twice_or_forgotten(self, model: PriceModel, quantity: Decimal) -> None:
        rated = rate(model, quantity)

        with exact():
            if isinstance(model, PerUnit | Graduated | Volume | Stairstep | GraduatedPercentage | Dynamic):
                assert sum(part.quantity for part in rated.parts) == quantity
            if isinstance(model, Package):
                packaged = rated.parts[0].quantity * model.size
                if model.rounding is PackageRounding.UP:
                    assert packaged - model.size < quantity <= packaged or quantity == packaged == 0
                else:
                    assert packaged <= quantity < packaged + model.size

    @given(models.filter(lambda model: not isinstance(model, Volume)), quantities, quantities)
    def test_more_usage_never_costs_less(self, model: PriceModel, one: Decimal, other: Decimal) -> None:
        less, more = sorted([one, other])

        assert amount_of(model, less) <= amount_of(model, more)

    @given(st.integers(1, 5), quantities)
    def test_equal_unit_amounts_make_tiers_meaningless(self, count: int, quantity: Decimal) -> None:
        same = tuple(tier(None if index == count else str(index), "0.25") for index in range(1, count + 1))

        with exact():
            expected = quantity * Decimal("0.25")
        assert amount_of(Graduated(same), quantity) == amount_of(Volume(same), quantity) == expected

    @given(models, quantities, st.integers(3, 28))
    def test_the_callers_decimal_context_does_not_matter(
        self, model: PriceModel, quantity: Decimal, precision: int
    ) -> None:
        with decimal.localcontext(decimal.Context(prec=precision)):
            elsewhere = rate(model, quantity)

        assert elsewhere == rate(model, quantity)
