"""Prices of rate cards as JSON; numbers are canonical decimal strings."""

from __future__ import annotations

from decimal import Decimal
from typing import NotRequired, TypedDict

from libs.money import RoundingMode, plain
from services.rating.domain.price_terms import NO_TERMS
from services.rating.domain.prices import (
    DEFAULT_OPTIONS,
    EmptyWindows,
    Flat,
    Graduated,
    Package,
    PerUnit,
    TimeOfDay,
    Volume,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price
from services.rating.store.model_json import ModelJson, model_from_json, model_to_json
from services.rating.store.terms_json import (
    OptionsJson,
    TermsJson,
    options_from_json,
    options_to_json,
    terms_from_json,
    terms_to_json,
)

# Old code would price what it does not know by what it does. By this it cannot price at all: the billing period is set
# aside with PRICING_FAILED, and all others of its pass are rated.
_NOT_FOR_OLD_CODE = "NaN"
_STAND_IN = ModelJson(kind="per_unit", amount="0")


class ExtendedJson(TypedDict):
    """A price as the first version of this service could not have it."""

    included_quantity: str
    model: ModelJson
    terms: TermsJson
    options: OptionsJson


class ProratedJson(TypedDict):
    """A price as the second version could not have it."""

    proration: str
    included_quantity: str
    model: ModelJson


class WindowedJson(TypedDict):
    """A price as the third version could not have it, or, in units, the fourth; `per_window` is size and what is done
    with empty windows."""

    included_quantity: str
    model: ModelJson
    per_window: tuple[str, str] | None


class PriceJson(TypedDict):
    price_id: str
    display_name: str
    meter_id: str | None
    included_quantity: str
    rounding_mode: str
    model: ModelJson
    exact_usage_included: NotRequired[str]
    """Of a price on exact usage: the included quantity, which is no number in its own place then."""
    extended: NotRequired[ExtendedJson]
    """Instead of included quantity and model, which then are stand-ins."""
    prorated: NotRequired[ProratedJson]
    """Instead of those of `extended`, which then are stand-ins too."""
    windowed: NotRequired[WindowedJson]
    """Instead of those of all before, which then are stand-ins."""
    in_units: NotRequired[WindowedJson]
    """Instead of those of all others, which then are stand-ins or left out."""


def price_to_json(price: Price) -> PriceJson:
    """Return a price as it is stored."""
    model, included = model_to_json(price.model), plain(price.included_quantity)
    in_units = price.terms.price_unit is not None
    whole = None
    if in_units or price.per_window is not None or isinstance(price.model, TimeOfDay):
        whole = WindowedJson(included_quantity=included, model=model, per_window=_per_window_to_json(price))
        model, included = _STAND_IN, _NOT_FOR_OLD_CODE
    stored = PriceJson(
        price_id=price.price_id,
        display_name=price.display_name,
        meter_id=price.meter_id,
        included_quantity=included,
        rounding_mode=price.rounding_mode.value,
        model=model,
    )
    if whole is not None:
        stored["in_units" if in_units else "windowed"] = whole
    if not _is_known_to_old_code(price, stored["model"]):
        stored["extended"] = ExtendedJson(
            included_quantity=stored["included_quantity"],
            model=stored["model"],
            terms=terms_to_json(price.terms),
            options=options_to_json(price.options),
        )
        stored["model"] = _STAND_IN
        if price.proration is not Proration.NONE:
            stored["prorated"] = ProratedJson(
                proration=price.proration.value,
                included_quantity=stored["extended"]["included_quantity"],
                model=stored["extended"]["model"],
            )
            stored["extended"]["included_quantity"] = _NOT_FOR_OLD_CODE
            stored["extended"]["model"] = _STAND_IN
    if price.exact_usage:
        stored["exact_usage_included"] = stored["included_quantity"]
    if price.exact_usage or "extended" in stored:
        stored["included_quantity"] = _NOT_FOR_OLD_CODE
    return stored


def price_from_json(stored: PriceJson) -> Price:
    """Return the price that `price_to_json` was given."""
    extended, prorated = stored.get("extended"), stored.get("prorated")
    windowed = stored.get("in_units") or stored.get("windowed")
    if windowed is not None:
        included, model = windowed["included_quantity"], windowed["model"]
    elif prorated is not None:
        included, model = prorated["included_quantity"], prorated["model"]
    elif extended is not None:
        included, model = extended["included_quantity"], extended["model"]
    else:
        included, model = stored.get("exact_usage_included", stored["included_quantity"]), stored["model"]
    return Price(
        price_id=stored["price_id"],
        model=model_from_json(model),
        meter_id=stored["meter_id"],
        included_quantity=Decimal(included),
        rounding_mode=RoundingMode(stored["rounding_mode"]),
        display_name=stored["display_name"],
        exact_usage="exact_usage_included" in stored,
        terms=NO_TERMS if extended is None else terms_from_json(extended["terms"]),
        options=DEFAULT_OPTIONS if extended is None else options_from_json(extended["options"]),
        proration=Proration.NONE if prorated is None else Proration(prorated["proration"]),
        per_window=None if windowed is None else _per_window_from_json(windowed["per_window"]),
    )


def _per_window_to_json(price: Price) -> tuple[str, str] | None:
    per_window = price.per_window
    return None if per_window is None else (per_window.size.value, per_window.empty.value)


def _per_window_from_json(stored: tuple[str, str] | None) -> WindowPricing | None:
    return None if stored is None else WindowPricing(WindowSize(stored[0]), EmptyWindows(stored[1]))


def _is_known_to_old_code(price: Price, model: ModelJson) -> bool:
    if price.proration is not Proration.NONE or price.per_window is not None:
        return False
    known_model = isinstance(price.model, Flat | PerUnit | Package | Graduated | Volume)
    uses_new_fields = not {"per", "rounding"}.isdisjoint(model) or any(
        "cap_amount" in t for t in model.get("tiers", [])
    )
    return known_model and not uses_new_fields and price.terms == NO_TERMS and price.options == DEFAULT_OPTIONS
