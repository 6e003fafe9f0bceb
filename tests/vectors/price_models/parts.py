"""Charges of parts: single events, lines of a period, blocks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from libs.money import Rounding, exact, to_quotient_scale
from libs.money.rounding import QUOTIENT_SCALE
from services.rating.domain.cumulative_commitment import CumulativeCommitment, rate_committed_period
from services.rating.domain.parts import (
    Adjustment,
    BlockTier,
    BlockTiers,
    CapacityTier,
    EventPercentage,
    FreeUsage,
    LinePosition,
    MaxSpend,
    MinSpend,
    PaymentTerm,
    ProratedChange,
    SplitAmount,
    UsageLine,
    adjusted_total,
    discount_shares,
    flat_line,
    included_in_line,
    progressive_lines,
    rate_blocks,
    rate_capacity,
    rate_events,
    rate_line,
    rate_prorated_units,
    shared_commitment,
)
from services.rating.domain.pipeline import rate_price
from services.rating.domain.price_terms import AmountDiscount, PercentDiscount
from services.rating.domain.prices import ZERO, Dynamic, Flat, Graduated, LinesBefore, Matrix, PriceModel, TimeOfDay
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import QuantityOutsideTiers
from tests.vectors.contradictions import unsupported
from tests.vectors.price_models.prices import Given, price_of, rounding_of

Result = dict[str, Any]


def charge_events(vector: Given) -> Result:
    given, price = vector["input"], vector["input"]["price"]
    if price["model"] == "dynamic":
        with exact():
            minor = sum((Decimal(event["amount"]) for event in given["events"]), ZERO)
            multiplier = Decimal(1).scaleb(-price["minor_digits"])
        return {"amount": rate_price(Price("price", Dynamic(multiplier), "meter"), minor).amount}
    if price["model"] != "percentage":
        unsupported("no_such_option", f"model {price['model']} by events")
    percentage = EventPercentage(
        Decimal(price["rate_percent"]),
        Decimal(price.get("fixed_per_event") or 0),
        None if price.get("free_events") is None else int(price["free_events"]),
        _optional(price.get("free_amount")),
        _optional(price.get("min_per_event")),
        _optional(price.get("max_per_event")),
        FreeUsage(vector["convention"].get("percentage_free_units", FreeUsage.AGGREGATE)),
    )
    values = [Decimal(event["value"]) for event in given["events"]]
    rated = rate_events(percentage, values)
    with exact():
        return {
            "amount": rated.amount,
            "percentage_amount": rated.percentage_amount,
            "fixed_amount": rated.fixed_amount,
            "free_units": sum((event.free_units for event in rated.events), ZERO),
            "paid_units": sum((event.paid_units for event in rated.events), ZERO),
            "free_events": sum(not event.is_paid for event in rated.events),
            "paid_events": sum(event.is_paid for event in rated.events),
            "per_event": [event.amount for event in rated.events],
            "cumulative": [rate_events(percentage, values[: count + 1]).amount for count in range(len(values))],
        }


def charge_prorated_graduated(vector: Given) -> Result:
    given = vector["input"]
    price = price_of(given["price"], vector["convention"])
    assert isinstance(price.model, Graduated)
    changes = [ProratedChange(Decimal(event["full"]), Decimal(event["prorated"])) for event in given["events"]]
    amount = rate_prorated_units(price.model, changes, price.options.zero_quantity_flat)
    return {"amount": _rounding(given)(amount)}


def charge_split(vector: Given) -> Result:
    given, convention = vector["input"], vector["convention"]
    price = price_of(given["price"], convention)
    split = SplitAmount.DIFFERENCE
    if convention.get("split_line_amount") == "round_line_quantity":
        split = SplitAmount.LINE_QUANTITY
    line = UsageLine(
        Decimal(given["from_quantity"]),
        Decimal(given["to_quantity"]),
        LinePosition(given["position"]),
        Decimal(given.get("previously_billed") or 0),
    )
    adjustments = [_adjustment(item) for item in given.get("adjustments") or []]
    rated = rate_line(model_of(price), line, price.options, adjustments, _rounding(given), split)
    return rated._asdict()


def charge_flat(vector: Given) -> Result:
    given = vector["input"]
    model = model_of(price_of(given["price"], vector["convention"]))
    assert isinstance(model, Flat)
    return {"amount": flat_line(model, PaymentTerm(given["payment_term"]), LinePosition(given["position"]))}


def charge_progressive(vector: Given) -> Result:
    given = vector["input"]
    final = given.get("final_step")
    totals = [
        _progressive_total(vector, Decimal(quantity), is_final=step == final)
        for step, quantity in enumerate(given["cumulative_quantities"])
    ]
    lines = progressive_lines(totals, _rounding(given))
    with exact():
        return {"lines": lines, "total": sum(lines, ZERO)}


def usage_discount(vector: Given) -> Result:
    given = vector["input"]
    start, end = Decimal(given["from_quantity"]), Decimal(given["to_quantity"])
    free = included_in_line(Decimal(given["discount_quantity"]), UsageLine(start, end, LinePosition.MID))
    return {"discounted_quantity": free, "net_quantity": end - start - free}


def commitment_cumulative(vector: Given) -> Result:
    given = vector["input"]
    promised = CumulativeCommitment(Decimal(given["commitment_amount"]), Decimal(given["overage_factor"]))
    items = {item["name"]: Decimal(item["amount"]) for item in given["current_items"]}
    rated = rate_committed_period(promised, [Decimal(x) for x in given["prior_base_amounts"]], list(items.values()))
    digits = (given.get("rounding") or {"digits": QUOTIENT_SCALE})["digits"]
    return {**rated._asdict(), "allocation": shared_commitment(rated.within, items, digits)}


def charge_blocks(vector: Given) -> Result:
    given, price = vector["input"], vector["input"]["price"]
    parts = [
        (unit, part)
        for unit, tiers in price["units"].items()
        for part in rate_blocks(
            [BlockTier(Decimal(t["block_size"]), _optional(t["max_blocks"]), Decimal(t["block_price"])) for t in tiers],
            Decimal(given["usage"].get(unit, 0)),
            BlockTiers(price["mode"]),
        )
    ]
    with exact():
        amount = sum((part.amount for _, part in parts), ZERO) - Decimal(given.get("previously_billed") or 0)
    return {"amount": amount, "tiers": [{"unit": unit, "amount": part.amount} for unit, part in parts]}


def charge_capacity(vector: Given) -> Result:
    given = vector["input"]
    tiers = [
        CapacityTier({unit: _optional(limit) for unit, limit in tier["limits"].items()}, Decimal(tier["price"]))
        for tier in given["price"]["tiers"]
    ]
    try:
        amount = rate_capacity(tiers, {unit: Decimal(quantity) for unit, quantity in given["usage"].items()})
    except QuantityOutsideTiers as error:
        return {"error": str(error)}
    with exact():
        return {"amount": amount - Decimal(given.get("previously_billed") or 0)}


def discount_allocation(vector: Given) -> Result:
    given = vector["input"]
    discount = given["discount"]
    kind = (
        AmountDiscount(Decimal(discount["amount"]))
        if discount["type"] == "amount"
        else PercentDiscount(Decimal(discount["percent"]))
    )
    return {"discounts": discount_shares(kind, [int(amount) for amount in given["amounts"]])}


def _progressive_total(vector: Given, quantity: Decimal, *, is_final: bool) -> Decimal:
    price, adjustments = price_of(vector["input"]["price"], vector["convention"]), list[Adjustment]()
    for item in vector["input"].get("adjustments") or []:
        if item["op"] == "usage_discount":
            price = Price("price", price.model, price.meter_id, Decimal(item["quantity"]), options=price.options)
        else:
            adjustments.append(_adjustment(item))
    return adjusted_total(rate_price(price, quantity).amount, adjustments, ends_period=is_final)


def _adjustment(item: Given) -> Adjustment:
    match item["op"]:
        case "percent_discount":
            return PercentDiscount(Decimal(item["percent"]))
        case "max_spend":
            return MaxSpend(Decimal(item["amount"]))
        case "min_spend":
            return MinSpend(Decimal(item["amount"]))
        case other:
            return unsupported("no_such_option", other)


def _optional(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def model_of(price: Price) -> PriceModel:
    assert not isinstance(price.model, Matrix | LinesBefore | TimeOfDay)
    return price.model


def _rounding(given: Given) -> Rounding:
    """As given, or exact."""
    rounding = given.get("rounding")
    return to_quotient_scale if rounding is None else rounding_of(rounding)
