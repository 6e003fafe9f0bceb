"""Charges for a quantity."""

from __future__ import annotations

from decimal import Decimal
from itertools import product, starmap
from typing import Any

from libs.money import allocate, exact, round_decimal
from services.rating.domain.pipeline import converted, rate_price
from services.rating.domain.prices import ZERO, Dynamic, Matrix, MatrixRow
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
    rounding_function,
    with_terms,
)

Result = dict[str, Any]


def charge(vector: Given) -> Result:
    given, expected = vector["input"], vector["expected"]
    for name in ("tier_quantity", "full_quantity"):
        if given.get(name) is not None:
            unsupported("no_such_option", name)
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
    priced = [part for part in rated.parts if part.kind not in (PartKind.CONVERTED, PartKind.INCLUDED)]
    return {
        "amount": _rounded(rated.amount, given.get("rounding")),
        "tiers": [{"units": part.quantity, "amount": part.amount} for part in priced],
        "packages": _sum_of(rated, PartKind.PACKAGE),
        "billable_quantity": sum((part.quantity for part in priced), ZERO),
    }


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
    if given.get("proration"):
        unsupported("no_runner", "a minimum of part of a period")
    limited = with_terms(Price("price", Dynamic(), "meter"), minimum_amount=Decimal(given["minimum_amount"]))
    rated = rate_price(limited, Decimal(given["charge_amount"]))
    missing = sum((part.amount for part in rated.parts if part.kind is PartKind.MINIMUM), ZERO)
    return {
        "true_up": _rounded(missing, given.get("rounding")),
        "true_up_unrounded": missing,
        "total": _rounded(rated.amount, given.get("rounding")),
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
    return {"amount": _rounded(Decimal(given["amount"]), given)}


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


def _rounded(amount: Decimal, given: Given | None) -> Decimal:
    return amount if given is None else round_decimal(amount, rounding_function(given["mode"]), given["digits"])
