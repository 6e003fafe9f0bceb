"""The price models against answers of other billing systems (a data file of published facts, kept outside).

The file is looked for in the directory that STEELYARD_VECTORS names, else in `../shared/vectors` beside the
repository. Without it nothing can be compared, which a test of its own says aloud.
"""

from __future__ import annotations

import json
import os
import warnings
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from libs.money import exact
from services.rating.domain.charges import price_amount, rate_price
from services.rating.domain.prices import (
    Flat,
    Graduated,
    NegativeQuantity,
    Package,
    PerUnit,
    PriceModel,
    PricingOptions,
    Tier,
    Volume,
    ZeroQuantityFlat,
)
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import PartKind

Vector = dict[str, Any]

ROOT = Path(__file__).resolve().parents[4]
VECTORS = Path(os.environ.get("STEELYARD_VECTORS") or ROOT.parent / "shared" / "vectors") / "price_models.jsonl"

MODELS = {"flat", "per_unit", "package", "graduated", "volume"}

# What the five models do not do, and why. A vector that needs one of these is skipped with that reason.
UNSUPPORTED = {
    "unit_conversion": "units are converted by the meter's expression, not by the price",
    "adjustments": "discounts and maximum spend are steps of their own, not part of a price model",
    "tier_quantity": "a volume tier is chosen by the quantity that is priced",
    "full_quantity": "an effective unit amount is a report's figure",
    "round_down": "a started package is always due in full",
    "cap_amount": "tiers have no cap",
    "graduated_ignores_excess": "a valid price has an open last tier; a quantity beyond is refused, never free",
}


def load() -> list[Vector]:
    if not VECTORS.is_file():
        return []
    with VECTORS.open(encoding="utf-8") as lines:
        vectors: list[Vector] = [json.loads(line) for line in lines]
    return [vector for vector in vectors if vector["kind"] == "charge" and vector["input"]["price"]["model"] in MODELS]


def unsupported(vector: Vector) -> str | None:
    given, tiers = vector["input"], vector["input"]["price"].get("tiers", [])
    needs = {name for name in ("unit_conversion", "adjustments", "tier_quantity", "full_quantity") if name in given}
    if given["price"].get("round") == "down":
        needs.add("round_down")
    if any(tier.get("cap_amount") is not None for tier in tiers):
        needs.add("cap_amount")
    bounded = bool(tiers) and tiers[-1]["up_to"] is not None
    if bounded and given["price"]["model"] == "graduated" and "error" not in vector["expected"]:
        needs.add("graduated_ignores_excess")
    return "; ".join(UNSUPPORTED[need] for need in sorted(needs)) or None


def price_of(vector: Vector) -> Price:
    given = vector["input"]["price"]
    return Price("p", model_of(given), "m", included_quantity=Decimal(given.get("free_units", "0")))


def model_of(given: Vector) -> PriceModel:
    match given["model"]:
        case "flat":
            return Flat(Decimal(given["amount"]))
        case "per_unit":
            with exact():  # Stated for 1000 or 2**20 units: the price of one is a longer, exact decimal.
                return PerUnit(Decimal(given["unit_amount"]) / Decimal(given.get("per", "1")))
        case "package":
            return Package(Decimal(given["package_size"]), Decimal(given["package_amount"]))
        case "graduated":
            return Graduated(tiers_of(given))
        case "volume":
            return Volume(tiers_of(given))
        case other:
            raise AssertionError(f"no such model: {other}")


def tiers_of(given: Vector) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            None if tier["up_to"] is None else Decimal(tier["up_to"]),
            Decimal(tier["unit_amount"]),
            Decimal(tier["flat_amount"]),
        )
        for tier in given["tiers"]
    )


def options_of(vector: Vector) -> PricingOptions:
    convention = vector["convention"]
    return PricingOptions(
        ZeroQuantityFlat(convention.get("zero_quantity_flat", "charge_first_tier")),
        NegativeQuantity(convention.get("negative_quantity", "clamp_zero")),
    )


def rounded(amount: Decimal, rounding: Vector | None) -> Decimal:
    if rounding is None:
        return amount
    assert rounding["mode"] == "half_up", "another mode needs a line here"
    return amount.quantize(Decimal(1).scaleb(-rounding["digits"]), ROUND_HALF_UP)


def assert_agrees(vector: Vector) -> None:
    price, quantity, options = price_of(vector), Decimal(vector["input"]["quantity"]), options_of(vector)
    expected = vector["expected"]
    if "error" in expected:
        with pytest.raises(ValueError, match=r"must not be negative|no tier holds"):
            rate_price(price, quantity, options)
        return

    rated = rate_price(price, quantity, options)

    rounding = vector["input"].get("rounding")
    assert rounded(rated.amount, rounding) == Decimal(expected["amount"])
    assert price_amount(price, quantity, options) == rated.amount
    if "packages" in expected:
        packages = [part.quantity for part in rated.parts if part.kind is PartKind.PACKAGE]
        assert packages == [Decimal(expected["packages"])]
    if "tiers" in expected:
        assert [(part.quantity, part.amount) for part in rated.parts] == [
            (Decimal(tier["units"]), Decimal(tier["amount"])) for tier in expected["tiers"]
        ]


ALL = load()

if ALL:

    @pytest.mark.parametrize(
        "vector",
        [
            pytest.param(vector, id=vector["id"], marks=pytest.mark.skipif(bool(why), reason=why or "supported"))
            for vector in ALL
            for why in [unsupported(vector)]
        ],
    )
    def test_agrees_with_other_billing_systems(vector: Vector) -> None:
        assert_agrees(vector)

else:

    def test_says_that_the_vectors_are_absent() -> None:
        warnings.warn(f"NOT COMPARED with other billing systems: no vectors at {VECTORS}", stacklevel=1)
