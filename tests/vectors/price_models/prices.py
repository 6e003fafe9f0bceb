"""Prices of vectors as prices of this system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from libs.money import Rounding, RoundingFunction, RoundingMode, round_amount, round_exact, to_quotient_scale
from services.rating.domain.price_terms import (
    Commitment,
    CommitmentKind,
    ConversionOperation,
    UnitConversion,
)
from services.rating.domain.prices import (
    ZERO,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    NegativeQuantity,
    Package,
    PackageRounding,
    PercentageTier,
    PerUnit,
    PriceModel,
    PricingOptions,
    Tier,
    Volume,
    ZeroQuantityFlat,
)
from services.rating.domain.rate_card import Price
from services.rating.domain.validation import check_price
from tests.vectors.contradictions import unsupported

Given = Mapping[str, Any]

_FUNCTIONS = {
    "half_up": RoundingFunction.ROUND,
    "ceiling": RoundingFunction.CEIL,
    "ceil": RoundingFunction.CEIL,
    "up": RoundingFunction.CEIL,
    "floor": RoundingFunction.FLOOR,
    "down": RoundingFunction.FLOOR,
}

_MONEY_MODES = {"half_even": RoundingMode.HALF_EVEN, "truncate": RoundingMode.DOWN}


def rounding_function(mode: str) -> RoundingFunction:
    return _FUNCTIONS.get(mode) or unsupported("rounding_mode", mode)


def rounding_of(given: Given) -> Rounding:
    """Rounding to digits, of quantities or of money."""
    mode, digits = given["mode"], given["digits"]
    if mode in _MONEY_MODES:
        return lambda amount: round_amount(to_quotient_scale(amount), digits, _MONEY_MODES[mode])
    function = rounding_function(mode)
    return lambda amount: round_exact(amount, function, digits)


def price_of(given: Given, convention: Given) -> Price:
    """A valid price, without terms.

    :raises Unsupported: if no price of this system is like that
    """
    model = _model(given)
    price = Price(
        "price",
        model,
        None if isinstance(model, Flat) else "meter",
        included_quantity=Decimal(given.get("free_units") or 0),
        options=PricingOptions(
            ZeroQuantityFlat(convention.get("zero_quantity_flat", ZeroQuantityFlat.CHARGE_FIRST_TIER)),
            NegativeQuantity(convention.get("negative_quantity", NegativeQuantity.CLAMP_ZERO)),
        ),
    )
    assert_valid(price)
    return price


def assert_valid(price: Price) -> None:
    """What `CreateRateCard` would refuse must not pass here."""
    violations = check_price(price)
    assert not violations, violations


def with_terms(price: Price, **terms: Any) -> Price:
    changed = replace(price, terms=replace(price.terms, **terms))
    assert_valid(changed)
    return changed


def conversion_of(given: Given) -> UnitConversion:
    rounding = given["rounding"]
    return UnitConversion(
        ConversionOperation(given["operation"]),
        Decimal(given["factor"]),
        None if rounding == "none" else rounding_function(rounding),
        given.get("precision") or 0,
    )


def commitment_of(given: Given, factor: str, *, true_up: bool) -> Commitment:
    return Commitment(CommitmentKind(given["type"]), Decimal(given["value"]), Decimal(factor), true_up)


def _model(given: Given) -> PriceModel:
    match given["model"]:
        case "flat":
            return Flat(Decimal(given["amount"]))
        case "per_unit":
            return PerUnit(Decimal(given["unit_amount"]), Decimal(given.get("per") or 1))
        case "package":
            rounding = PackageRounding(given.get("round") or PackageRounding.UP)
            return Package(Decimal(given["package_size"]), Decimal(given["package_amount"]), rounding)
        case "graduated":
            return Graduated(_tiers(given))
        case "volume":
            return Volume(_tiers(given))
        case "graduated_percentage":
            tiers = given["tiers"]
            return GraduatedPercentage(
                tuple(
                    PercentageTier(_bound(tier), Decimal(tier["rate_percent"]), Decimal(tier.get("flat_amount") or 0))
                    for tier in tiers
                )
            )
        case "dynamic_multiplier":
            return Dynamic(Decimal(given["multiplier"]))
        case other:
            return unsupported("no_such_option", f"model {other}")


def _tiers(given: Given) -> tuple[Tier, ...]:
    if given["tiers"][-1]["up_to"] is not None:
        unsupported("bounded_last_tier")
    return tuple(
        Tier(
            _bound(tier),
            Decimal(tier["unit_amount"]),
            Decimal(tier.get("flat_amount") or ZERO),
            None if tier.get("cap_amount") is None else Decimal(tier["cap_amount"]),
        )
        for tier in given["tiers"]
    )


def _bound(tier: Given) -> Decimal | None:
    return None if tier["up_to"] is None else Decimal(tier["up_to"])
