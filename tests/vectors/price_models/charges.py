"""Charges for a quantity."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import product, starmap
from typing import Any

from libs.money import Exact, RoundingFunction, allocate, exact, round_exact, share_of_value, to_quotient_scale
from services.rating.domain.pipeline import converted, rate_price
from services.rating.domain.prices import ZERO, Dynamic, Matrix, MatrixRow, Volume
from services.rating.domain.pricing.volume import volume_amount
from services.rating.domain.prorated_price import for_share
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import NegativeQuantityRefused, PartKind, RatedPrice
from services.rating.domain.usage import DimensionedQuantity
from tests.vectors.contradictions import unsupported
from tests.vectors.price_models.prices import (
    Given,
    assert_valid,
    commitment_of,
    conversion_of,
    price_of,
    rounding_of,
    with_terms,
)

Result = dict[str, Any]
_SHOWN = 14
"""Digits after the point of what vectors call unrounded."""


def charge(vector: Given) -> Result:
    given, expected = vector["input"], vector["expected"]
    if "error" in expected and given["price"].get("tiers", [{"up_to": None}])[-1]["up_to"] is not None:
        return {"error": "the last tier has to be open"}  # `check_price` refuses the price itself.
    price = price_of(given["price"], vector["convention"])
    if conversion := given.get("unit_conversion"):
        price = with_terms(price, conversion=conversion_of(conversion))
    for adjustment in given.get("adjustments") or []:
        price = _adjusted(price, adjustment)
    try:
        rated = rate_price(price, Decimal(given["quantity"]))
    except NegativeQuantityRefused as error:
        return {"error": str(error)}
    if (tier_quantity := given.get("tier_quantity")) is not None:
        return _with_unit_amount(given, _by_another_tier(price, given, Decimal(tier_quantity)), {})
    priced = [part for part in rated.parts if part.kind not in (PartKind.CONVERTED, PartKind.INCLUDED)]
    others = {
        "tiers": [{"units": part.quantity, "amount": part.amount} for part in priced],
        "packages": _sum_of(rated, PartKind.PACKAGE),
        "billable_quantity": sum((part.quantity for part in priced), ZERO),
    }
    return _with_unit_amount(given, rated.amount, others)


def _with_unit_amount(given: Given, amount: Decimal, others: Result) -> Result:
    shown = rounded(amount, given.get("rounding"))
    whole = Fraction(given.get("full_quantity") or given["quantity"])
    per_unit = to_quotient_scale(Fraction(shown) / whole) if whole else ZERO
    return {"amount": shown, "effective_unit_amount": per_unit, **others}


def _by_another_tier(price: Price, given: Given, tier_quantity: Decimal) -> Decimal:
    if not isinstance(price.model, Volume):
        unsupported("no_such_option", f"tier_quantity of {given['price']['model']}")
    with exact():
        return volume_amount(price.model, Decimal(given["quantity"]), price.options.zero_quantity_flat, tier_quantity)


def charge_dimensions(vector: Given) -> Result:
    given = vector["input"]
    rows: dict[tuple[tuple[str, str], ...], Decimal] = {}
    for rate in given.get("rates") or []:
        names, values = zip(*sorted(rate["match"].items()), strict=True)
        for chosen in product(*values):
            rows.setdefault(tuple(zip(names, chosen, strict=True)), unit_amount_of(rate["price"]))
    matrix = Matrix(tuple(starmap(MatrixRow, rows.items())), unit_amount_of(given["price"]))
    price = Price("price", matrix, "meter")
    assert_valid(price)
    usage = [DimensionedQuantity(item["dimensions"], Decimal(item["quantity"])) for item in given["usage"]]
    return {
        "amount": rate_price(price, ZERO, by_dimensions=usage).amount,
        "groups": [
            {"dimensions": item.dimensions, "amount": rate_price(price, ZERO, by_dimensions=[item]).amount}
            for item in usage
        ],
    }


def unit_amount_of(given: Given) -> Decimal:
    if given["model"] != "per_unit" or given.get("per"):
        unsupported("no_such_option", f"a matrix of {given['model']}")
    return Decimal(given["unit_amount"])


def charge_sum(vector: Given) -> Result:
    components = vector["input"]["components"]
    with exact():
        amount = sum(
            (
                rate_price(price_of(item["price"], vector["convention"]), Decimal(item["quantity"])).amount
                for item in components
            ),
            ZERO,
        )
    return {"amount": amount}


def unit_conversion(vector: Given) -> Result:
    return {"quantity": converted(conversion_of(vector["input"]), Decimal(vector["input"]["quantity"]))}


def included_usage(vector: Given) -> Result:
    given = vector["input"]
    quantity = Decimal(given["quantity"])
    # Without limit: what nobody uses up.
    included = quantity if given["included"] == "unlimited" else Decimal(given["included"])
    free = {**given["price"], "free_units": str(included)}
    no_charge = {"zero_quantity_flat": "no_charge", **vector["convention"]}
    rated = rate_price(price_of(free, no_charge), quantity)
    return {"billable_quantity": quantity - _sum_of(rated, PartKind.INCLUDED), "amount": rated.amount}


def minimum(vector: Given) -> Result:
    given = vector["input"]
    limited = with_terms(Price("price", Dynamic(), "meter"), minimum_amount=Decimal(given["minimum_amount"]))
    whole = Decimal(given["minimum_amount"])
    promised: Exact = whole
    if part := given.get("proration"):
        share = Fraction(part["days"], part["period_days"])
        limited, promised = for_share(limited, share), share_of_value(whole, share)
    rated = rate_price(limited, Decimal(given["charge_amount"]))
    spent = Fraction(given["charge_amount"])
    missing = sum((part.amount for part in rated.parts if part.kind is PartKind.MINIMUM), ZERO)
    return {
        "true_up": rounded(missing, given.get("rounding")),
        "true_up_unrounded": round_exact(max(Fraction(0), Fraction(promised) - spent), RoundingFunction.ROUND, _SHOWN),
        "prorated_minimum": round_exact(promised, RoundingFunction.ROUND, _SHOWN),
        "total": rounded(rated.amount, given.get("rounding")),
    }


def commitment(vector: Given) -> Result:
    given = vector["input"]
    promise = commitment_of(given["commitment"], given["overage_factor"], true_up=given["true_up"])
    rated = rate_price(
        with_terms(price_of(given["price"], vector["convention"]), commitment=promise), Decimal(given["quantity"])
    )
    true_up = sum((part.amount for part in rated.parts if part.kind is PartKind.TRUE_UP), ZERO)
    above = _sum_of(rated, PartKind.OVERAGE)
    with exact():
        overage = above * promise.overage_factor
        return {
            "within": rated.amount - true_up - overage,
            "overage": overage,
            "true_up": true_up,
            "total": rated.amount,
        }


def allocation(vector: Given) -> Result:
    given = vector["input"]
    with exact():
        whole = Decimal(given["amount"]).scaleb(given["digits"])
    weights = [Decimal(weight) for weight in given["weights"]]
    order = list(range(len(weights)))
    if keys := given.get("keys"):
        order.sort(key=lambda index: keys[index])
    parts = allocate(int(whole), [weights[index] for index in order])
    shares = dict(zip(order, parts, strict=True))
    return {"shares": [Decimal(shares[index]).scaleb(-given["digits"]) for index in range(len(weights))]}


def rounding(vector: Given) -> Result:
    given = vector["input"]
    return {"amount": rounded(Decimal(given["amount"]), given)}


def _adjusted(price: Price, adjustment: Given) -> Price:
    match adjustment["op"]:
        case "max_spend":
            return with_terms(price, maximum_amount=Decimal(adjustment["amount"]))
        case "min_spend":
            return with_terms(price, minimum_amount=Decimal(adjustment["amount"]))
        case "usage_discount":
            assert not price.included_quantity, "two kinds of free usage"
            return price_with_included(price, Decimal(adjustment["quantity"]))
        case other:
            return unsupported("no_such_option", other)


def price_with_included(price: Price, quantity: Decimal) -> Price:
    return Price(price.price_id, price.model, price.meter_id, quantity, options=price.options, terms=price.terms)


def _sum_of(rated: RatedPrice, kind: PartKind) -> Decimal:
    return sum((part.quantity for part in rated.parts if part.kind is kind), ZERO)


def rounded(amount: Decimal, given: Given | None) -> Decimal:
    return amount if given is None else rounding_of(given)(amount)
