"""Shares of periods, and amounts for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from libs.money import (
    Exact,
    NewPlan,
    PlanFee,
    Rounding,
    RoundingFunction,
    capped_credit,
    round_exact,
    share_of_value,
    upgrade,
)
from libs.money import plan_change as changed_plan
from libs.money import quantity_change as changed_quantity
from libs.periods import AnchorSeries, Interval, Share, ShareBasis, Span, find_zone, share_of
from services.rating.domain.proration import prorated_shortfall
from tests.vectors.contradictions import unsupported
from tests.vectors.price_models.prices import rounding_function

Given = Mapping[str, Any]
Result = dict[str, Any]


def fraction(vector: Given) -> Result:
    share = share_in(vector["input"])
    factor = round_exact(share.fraction, RoundingFunction.ROUND, vector["input"]["digits"])
    return {"factor": factor, "fraction": f"{share.part}/{share.whole}"}


def prorated_amount(vector: Given) -> Result:
    given = vector["input"]
    share = share_in(given)
    if nominal := given.get("nominal_period_days"):
        share = Share(share.part, nominal)
    amount = share_of_value(Decimal(given["amount"]), share.fraction)
    return {
        "amount": rounding_in(given)(amount),
        "unrounded_14": _unrounded(amount, vector["expected"].get("unrounded_14")),
    }


def prorated_cycles_amount(vector: Given) -> Result:
    given = vector["input"]
    cycles = round_exact(Decimal(given["cycles"]), RoundingFunction.ROUND, given["factor_digits"])
    return {"amount": rounding_in(given)(share_of_value(Decimal(given["amount"]), Fraction(cycles)))}


def minimum_commitment(vector: Given) -> Result:
    given = vector["input"]
    committed, fee = Decimal(given["commitment_amount"]), Decimal(given["plan_amount"])
    return {"true_up": prorated_shortfall(committed, fee, share_in(given).fraction, rounding_in(given))}


def upgrade_offset(vector: Given) -> Result:
    given = vector["input"]
    new = share_in(given)
    old = share_of(span(given["active"]), span(given["old_billed_span"]), basis(given), _zone(given["old_billed_span"]))
    found = upgrade(
        Decimal(given["new_amount"]),
        new.fraction,
        Decimal(given["old_billed_amount"]),
        old.fraction,
        rounding_in(given),
    )
    return {"new_prorated": found.new_prorated, "old_share": found.already_paid, "amount": found.amount}


def upgrade_net_of_billed(vector: Given) -> Result:
    given = vector["input"]
    new, billed = Decimal(given["new_amount"]), Decimal(given["already_billed"])
    found = upgrade(new, share_in(given).fraction, billed, Fraction(1), rounding_in(given))
    return {"new_prorated": found.new_prorated, "amount": found.amount}


def plan_change(vector: Given) -> Result:
    given = vector["input"]
    zone = _zone(given.get("period") or given)
    at = instant(given["at"])
    if period := given.get("period"):
        whole, due = span(period), NewPlan.REST_OF_PERIOD
    else:
        start = instant(given["cycle_start"])
        whole = Span(start, AnchorSeries(start, Interval(given["old_interval"]), zone).at_index(1))
        same = given["old_interval"] == given["new_interval"]
        due = NewPlan.REST_OF_PERIOD if same else NewPlan.WHOLE_PERIOD
    rest = share_of(Span(at, whole.end), whole, basis(given), zone)
    found = changed_plan(_fee(given["old"]), _fee(given["new"]), rest.fraction, rounding_in(given), due)
    return {"credit": found.credit, "charge": found.charge, "net": found.net}


def quantity_change(vector: Given) -> Result:
    given = vector["input"]
    whole = span(given["period"])
    rest = share_of(Span(instant(given["at"]), whole.end), whole, basis(given), _zone(given["period"]))
    unit_amount, old, new = (Decimal(given[name]) for name in ("unit_amount", "old_quantity", "new_quantity"))
    return {"amount": changed_quantity(unit_amount, old, new, rest.fraction, rounding_in(given))}


def credit_cap(vector: Given) -> Result:
    given = vector["input"]
    names = ("potential_credit", "paid_amount", "previous_credits")
    return {"credit": capped_credit(*(Decimal(given[name]) for name in names))}


def share_in(given: Given) -> Share:
    return share_of(span(given["active"]), span(given["period"]), basis(given), _zone(given["period"]))


def span(given: Given) -> Span:
    return Span(instant(given["start"]), instant(given["end"]))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def basis(given: Given) -> ShareBasis:
    if given["basis"] not in set(ShareBasis):
        unsupported("no_such_option", f"basis {given['basis']}")
    return ShareBasis(given["basis"])


def rounding_in(given: Given) -> Rounding:
    rounding = given.get("rounding")
    if rounding is None:
        return _ending
    function = rounding_function(rounding["mode"])
    return lambda value: round_exact(value, function, rounding["digits"])


def _ending(value: Exact) -> Decimal:
    """Exactly; it ends, or no vector could say it."""
    numerator, denominator = value.as_integer_ratio()
    return Decimal(numerator) / Decimal(denominator)


def _unrounded(amount: Fraction, expected: str | None) -> Decimal | None:
    """To as many digits as are told; the vectors' own 14 are of digits, not of those after the point."""
    if expected is None:
        return None
    return round_exact(amount, RoundingFunction.ROUND, len(expected.partition(".")[2]))


def _fee(given: Given | None) -> PlanFee | None:
    if given is None:
        return None
    fee = PlanFee(Decimal(given["unit_amount"]), Decimal(given["quantity"]))
    discount = given.get("discount") or {"type": "none"}
    if discount["type"] == "percent":
        fee = replace(fee, percent_off=Decimal(discount["percent"]))
    elif discount["type"] == "amount":
        fee = replace(fee, amount_off=Decimal(discount["amount"]))
    elif discount["type"] != "none":
        unsupported("no_such_option", f"discount {discount['type']}")
    return fee


def _zone(given: Given) -> ZoneInfo:
    return find_zone(given["timezone"])
