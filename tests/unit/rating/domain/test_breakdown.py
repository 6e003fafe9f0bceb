"""Breakdowns: text only, back again, same bytes for the same price."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given

from services.rating.domain.breakdown import breakdown_bytes, breakdown_of, rated_price_of
from services.rating.domain.prices import Graduated, PerUnit, PriceModel
from services.rating.domain.pricing import rate
from tests.unit.rating.domain.prices import models, quantities, tier

GRADUATED = Graduated((tier("10", "0.10", "1"), tier(None, "0.050")))


class TestBreakdown:
    def test_is_text_with_canonical_numbers(self) -> None:
        assert breakdown_of(rate(GRADUATED, Decimal("1E+1"))) == {
            "amount": "2",
            "parts": [
                {
                    "kind": "tier",
                    "from_quantity": "0",
                    "up_to_quantity": "10",
                    "quantity": "10",
                    "unit_amount": "0.1",
                    "flat_amount": "1",
                    "amount": "2",
                }
            ],
        }

    def test_leaves_bounds_that_do_not_exist_empty(self) -> None:
        (part,) = breakdown_of(rate(PerUnit(Decimal(1)), Decimal(2)))["parts"]

        assert (part["from_quantity"], part["up_to_quantity"]) == ("", "")
        assert breakdown_of(rate(GRADUATED, Decimal(11)))["parts"][1]["up_to_quantity"] == ""

    def test_the_way_numbers_are_written_does_not_change_the_bytes(self) -> None:
        one, other = rate(PerUnit(Decimal("0.50")), Decimal("2.0")), rate(PerUnit(Decimal("0.5")), Decimal(2))

        assert breakdown_bytes(breakdown_of(one)) == breakdown_bytes(breakdown_of(other))

    def test_bytes_are_fixed(self) -> None:
        # A change here changes what is stored beside every charge: raise ENGINE_VERSION.
        assert breakdown_bytes(breakdown_of(rate(PerUnit(Decimal("0.5")), Decimal(3)))) == (
            b'{"amount":"1.5","parts":[{"amount":"1.5","flat_amount":"0","from_quantity":"","kind":"per_unit",'
            b'"quantity":"3","unit_amount":"0.5","up_to_quantity":""}]}'
        )

    @given(models, quantities)
    def test_goes_to_json_and_back(self, model: PriceModel, quantity: Decimal) -> None:
        rated = rate(model, quantity)
        stored = breakdown_bytes(breakdown_of(rated))

        restored = rated_price_of(json.loads(stored))

        assert restored == rated
        assert breakdown_bytes(breakdown_of(restored)) == stored
