from __future__ import annotations

import json
from decimal import Decimal

import pytest

from libs.money import RoundingMode
from services.rating.domain.prices import Flat, Graduated, Package, PerUnit, PriceModel, Tier, Volume
from services.rating.domain.rate_card import Price
from services.rating.store.price_json import price_from_json, price_to_json

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
