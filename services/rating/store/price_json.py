"""Prices of rate cards as JSON; numbers are canonical decimal strings."""

from __future__ import annotations

from decimal import Decimal
from typing import NotRequired, TypedDict, assert_never

from libs.money import RoundingMode, plain
from services.rating.domain.prices import Flat, Graduated, Package, PerUnit, PriceModel, Tier, Volume
from services.rating.domain.rate_card import Price


class TierJson(TypedDict):
    up_to: str | None
    unit_amount: str
    flat_amount: str


# Code from before exact usage would add up what must not be added up. By this it cannot price at all: the billing
# period is set aside with PRICING_FAILED.
_NOT_FOR_OLD_CODE = "NaN"


class ModelJson(TypedDict):
    """`kind` says which of the other fields are there."""

    kind: str
    amount: NotRequired[str]
    size: NotRequired[str]
    tiers: NotRequired[list[TierJson]]


class PriceJson(TypedDict):
    price_id: str
    display_name: str
    meter_id: str | None
    included_quantity: str
    rounding_mode: str
    model: ModelJson
    exact_usage_included: NotRequired[str]
    """Of a price on exact usage: the included quantity, which is no number in its own place then."""


def price_to_json(price: Price) -> PriceJson:
    """Return a price as it is stored."""
    stored = PriceJson(
        price_id=price.price_id,
        display_name=price.display_name,
        meter_id=price.meter_id,
        included_quantity=plain(price.included_quantity),
        rounding_mode=price.rounding_mode.value,
        model=_model_to_json(price.model),
    )
    if price.exact_usage:
        stored["exact_usage_included"] = stored["included_quantity"]
        stored["included_quantity"] = _NOT_FOR_OLD_CODE
    return stored


def price_from_json(stored: PriceJson) -> Price:
    """Return the price that `price_to_json` was given."""
    return Price(
        price_id=stored["price_id"],
        model=_model_from_json(stored["model"]),
        meter_id=stored["meter_id"],
        included_quantity=Decimal(stored.get("exact_usage_included", stored["included_quantity"])),
        rounding_mode=RoundingMode(stored["rounding_mode"]),
        display_name=stored["display_name"],
        exact_usage="exact_usage_included" in stored,
    )


def _model_to_json(model: PriceModel) -> ModelJson:
    match model:
        case Flat(amount):
            return ModelJson(kind="flat", amount=plain(amount))
        case PerUnit(unit_amount):
            return ModelJson(kind="per_unit", amount=plain(unit_amount))
        case Package(size, amount):
            return ModelJson(kind="package", size=plain(size), amount=plain(amount))
        case Graduated(tiers):
            return ModelJson(kind="graduated", tiers=[_tier_to_json(tier) for tier in tiers])
        case Volume(tiers):
            return ModelJson(kind="volume", tiers=[_tier_to_json(tier) for tier in tiers])
        case _:
            assert_never(model)


def _model_from_json(stored: ModelJson) -> PriceModel:
    match stored["kind"]:
        case "flat":
            return Flat(Decimal(stored["amount"]))
        case "per_unit":
            return PerUnit(Decimal(stored["amount"]))
        case "package":
            return Package(Decimal(stored["size"]), Decimal(stored["amount"]))
        case "graduated":
            return Graduated(_tiers_from_json(stored["tiers"]))
        case "volume":
            return Volume(_tiers_from_json(stored["tiers"]))
        case unknown:
            raise ValueError(f"no price model: {unknown}")


def _tier_to_json(tier: Tier) -> TierJson:
    return TierJson(
        up_to=None if tier.up_to is None else plain(tier.up_to),
        unit_amount=plain(tier.unit_amount),
        flat_amount=plain(tier.flat_amount),
    )


def _tiers_from_json(stored: list[TierJson]) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            None if tier["up_to"] is None else Decimal(tier["up_to"]),
            Decimal(tier["unit_amount"]),
            Decimal(tier["flat_amount"]),
        )
        for tier in stored
    )
