"""Prices of windows: by a rate card where one can agree on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from libs.money import exact
from libs.periods import Period, find_zone
from services.rating.domain.charges import Charge, rate_card_charges
from services.rating.domain.parts import PricedTime, Window, rate_windows
from services.rating.domain.pipeline import rate_price
from services.rating.domain.prices import ONE, ZERO, PerUnit, WindowPricing, WindowSize
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import PartKind
from services.rating.domain.usage_by_window import MeterCut, WindowCut, WindowedUsage, WindowQuantity, place_at
from services.rating.domain.windowed_price import priced_windows
from tests.vectors.price_models.prices import Given, commitment_of, price_of, with_terms

Result = dict[str, Any]

_START = datetime(2026, 1, 1, tzinfo=UTC)


def charge_buckets(vector: Given) -> Result:
    given = vector["input"]
    quantities = [Decimal(quantity) for quantity in given["bucket_quantities"]]
    price = price_of(given["price"], vector["convention"])
    if vector["convention"].get("bucketed_pricing") == "sum_then_price":
        with exact():
            total = sum(quantities, ZERO)
        return {"amount": rate_price(price, total).amount, "quantity": total}
    charge, _ = _charged(price, _by_hour(quantities), "UTC")
    return {"amount": charge.amount, "quantity": charge.quantity}


def included_usage_windows(vector: Given) -> Result:
    given = vector["input"]
    quantities = [Decimal(quantity) for quantity in given["window_quantities"]]
    included = Decimal(given["included_per_window"])
    price = replace(price_of(given["price"], vector["convention"]), included_quantity=included)
    charge, _ = _charged(price, _by_hour(quantities), "UTC")
    free = sum((part.quantity for part in charge.rated.parts if part.kind is PartKind.INCLUDED), ZERO)
    # How much is above in each: what a unit amount of 1 makes of it.
    at_one = replace(price, model=PerUnit(ONE))
    _, above = _charged(at_one, _by_hour(quantities), "UTC")
    with exact():
        return {"window_overage": above, "billable_quantity": charge.quantity - free, "amount": charge.amount}


def commitment_windows(vector: Given) -> Result:
    given, convention = vector["input"], vector["convention"]
    windows = [Window(datetime.fromisoformat(item["start"]), Decimal(item["quantity"])) for item in given["windows"]]
    if not given["time_buckets"]:
        charge, amounts = _charged(_committed_price(given, convention), windows, given["timezone"])
        return {"windows": amounts, "total": charge.amount}
    times = [
        PricedTime(
            time.fromisoformat(item["start"]), time.fromisoformat(item["end"]), _committed_price(item, convention)
        )
        for item in given["time_buckets"]
    ]
    price = None if given["price"] is None else _committed_price(given, convention)
    rated = rate_windows(windows, find_zone(given["timezone"]), price, times)
    with exact():
        return {
            "windows": [window.total for window in rated],
            "within": sum((window.within for window in rated), ZERO),
            "overage": sum((window.overage for window in rated), ZERO),
            "true_up": sum((window.true_up for window in rated), ZERO),
            "total": sum((window.total for window in rated), ZERO),
        }


def _by_hour(quantities: Sequence[Decimal]) -> list[Window]:
    return [Window(_START + timedelta(hours=hour), quantity) for hour, quantity in enumerate(quantities)]


def _charged(price: Price, windows: Sequence[Window], zone: str) -> tuple[Charge, list[Decimal]]:
    """What a card with a price per hour charges, and what each of the hours costs."""
    start = min(window.start for window in windows)
    period = Period(start, start + timedelta(days=31))
    hourly = replace(price, meter_id="meter", per_window=WindowPricing(WindowSize.HOUR))
    cut = MeterCut("meter", WindowCut.HOUR, zone)
    quantities = [WindowQuantity(place_at(window.start, period, cut.cut, zone), window.quantity) for window in windows]
    usage = WindowedUsage(period, zone, {cut: quantities})
    with exact():
        total = sum((window.quantity for window in windows), ZERO)
    (charge,) = rate_card_charges(RateCard("card", 1, "USD", None, (hourly,)), {"meter": total}, windowed=usage)
    return charge, [window.amount for window in priced_windows(hourly, cut, usage, None, len(windows))]


def _committed_price(given: Given, convention: Given) -> Price:
    price = price_of(given["price"], convention)
    if not given.get("commitment"):
        return price
    promise = commitment_of(given["commitment"], given["overage_factor"], true_up=given["true_up"])
    return with_terms(price, commitment=promise)
