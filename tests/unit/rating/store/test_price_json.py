from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import RoundingMode
from services.rating.domain.pipeline import rate_lines_before, rate_price
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import (
    Flat,
    Graduated,
    LinesBefore,
    Package,
    PerUnit,
    PriceModel,
    Tier,
    Volume,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price
from services.rating.store.price_json import price_from_json, price_to_json
from tests.unit.rating.domain.prices import any_prices, prices_in_units, windowed_prices

TIERS = (Tier(Decimal("10.5"), Decimal("0.000000000001"), Decimal(3)), Tier(None, Decimal("12345678901234567890")))


@pytest.mark.parametrize(
    "model",
    [
        Flat(Decimal("20.00")),
        PerUnit(Decimal("1E-12")),
        Package(Decimal(1000), Decimal("0.05")),
        Graduated(TIERS),
        Volume(TIERS),
    ],
)
def test_a_price_survives_json(model: PriceModel) -> None:
    price = Price("p", model, "m", Decimal("0.1"), RoundingMode.DOWN, "Name")

    stored = json.dumps(price_to_json(price))

    assert price_from_json(json.loads(stored)) == price
    assert "E-" not in stored
    assert all(isinstance(value, str) for value in price_to_json(price).values() if not isinstance(value, dict))


class TestExactUsage:
    PRICE = Price("p", PerUnit(Decimal(2)), "m", Decimal("0.1"), exact_usage=True)

    def test_is_part_of_the_price(self) -> None:
        assert price_from_json(json.loads(json.dumps(price_to_json(self.PRICE)))) == self.PRICE

    def test_is_absent_where_it_is_not_needed_as_it_always_was(self) -> None:
        stored = price_to_json(replace(self.PRICE, exact_usage=False))
        assert stored.keys() == {"price_id", "display_name", "meter_id", "included_quantity", "rounding_mode", "model"}
        assert not price_from_json(stored).exact_usage

    def test_keeps_code_that_does_not_know_it_from_pricing(self) -> None:
        stored = price_to_json(self.PRICE)
        del stored["exact_usage_included"]
        with pytest.raises(ArithmeticError):
            rate_price(price_from_json(stored), Decimal(5))


class TestCommitmentsOverPeriods:
    YEAR = Commitment(CommitmentKind.AMOUNT, Decimal("12000.50"), Decimal("1.2"), true_up=False, periods=12)

    @pytest.mark.parametrize("model", [PerUnit(Decimal(2)), LinesBefore()], ids=["usage", "lines_before"])
    def test_survive_json(self, model: PerUnit | LinesBefore) -> None:
        price = Price("p", model, "m", terms=PriceTerms(commitment=self.YEAR))
        assert price_from_json(json.loads(json.dumps(price_to_json(price)))) == price

    @pytest.mark.parametrize("quantity", [0, 1, 10**9])
    def test_keep_code_that_does_not_know_them_from_pricing(self, quantity: int) -> None:
        """It would take what is promised for a year as promised for each month."""
        stored = price_to_json(Price("p", PerUnit(Decimal(2)), "m", terms=PriceTerms(commitment=self.YEAR)))
        commitment = stored["extended"]["terms"]["commitment"]
        del commitment["periods"], commitment["term_value"]
        old = price_from_json(stored)
        with pytest.raises(ArithmeticError):
            rate_price(old, Decimal(quantity))
        with pytest.raises(ArithmeticError):
            rate_lines_before(old.terms, Decimal(quantity))

    def test_of_one_period_are_stored_as_they_always_were(self) -> None:
        terms = PriceTerms(commitment=replace(self.YEAR, periods=1))
        stored = price_to_json(Price("p", PerUnit(Decimal(2)), "m", terms=terms))["extended"]["terms"]["commitment"]
        assert stored == {"kind": "amount", "value": "12000.5", "overage_factor": "1.2", "true_up": False}


class TestExtendedPrices:
    @given(any_prices, st.booleans())
    def test_survive_json(self, price: Price, exact_usage: bool) -> None:
        price = replace(price, exact_usage=exact_usage)
        assert price_from_json(json.loads(json.dumps(price_to_json(price)))) == price

    @given(any_prices, st.booleans())
    def test_that_are_prorated_keep_code_that_does_not_know_it_from_pricing(self, price: Price, exact: bool) -> None:
        prorated = replace(price, proration=Proration.BY_DAY, exact_usage=exact)
        stored = json.loads(json.dumps(price_to_json(prorated)))
        assert price_from_json(stored) == prorated

        del stored["prorated"]
        with pytest.raises(ArithmeticError):
            rate_price(price_from_json(stored), Decimal(5))

    @given(any_prices)
    def test_keep_code_that_does_not_know_them_from_pricing(self, price: Price) -> None:
        stored = price_to_json(price)
        if "extended" in stored:
            del stored["extended"]
            with pytest.raises(ArithmeticError):
                rate_price(price_from_json(stored), Decimal(5))
        else:
            assert price.terms == PriceTerms()


class TestWindowedPrices:
    @given(windowed_prices, st.sampled_from([Proration.NONE, Proration.BY_DAY]))
    def test_survive_json_and_keep_code_that_does_not_know_them_from_pricing(
        self, price: Price, proration: Proration
    ) -> None:
        price = replace(price, proration=proration)
        stored = json.loads(json.dumps(price_to_json(price)))
        assert price_from_json(stored) == price

        # Each release in turn: what it does not know is not there.
        for unknown in ("windowed", "prorated", "extended"):
            stored.pop(unknown, None)
            with pytest.raises(ArithmeticError):
                rate_price(price_from_json(stored), Decimal(5))


class TestPricesInUnits:
    @given(prices_in_units(), st.sampled_from([None, WindowPricing(WindowSize.HOUR)]), st.booleans())
    def test_survive_json_and_keep_code_that_does_not_know_them_from_pricing(
        self, price: Price, per_window: WindowPricing | None, exact_usage: bool
    ) -> None:
        price = replace(price, per_window=per_window, exact_usage=exact_usage)
        stored = json.loads(json.dumps(price_to_json(price)))
        assert price_from_json(stored) == price

        for unknown in ("in_units", "prorated", "extended"):
            stored.pop(unknown, None)
            with pytest.raises(ArithmeticError):
                rate_price(price_from_json(stored), Decimal(5))
