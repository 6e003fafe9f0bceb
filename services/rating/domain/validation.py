"""What is wrong with a rate card, by the field names that clients use."""

from __future__ import annotations

from collections.abc import Sequence

from libs.errors import Violation
from libs.ids import check_resource_id, check_text
from libs.money import MINOR_DIGITS
from services.rating.domain.currency_validation import check_further_currencies
from services.rating.domain.model_validation import check_model
from services.rating.domain.number_checks import check_number
from services.rating.domain.precision import check_precision
from services.rating.domain.price_unit import PriceUnit
from services.rating.domain.prices import Flat, LinesBefore
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.terms_validation import check_terms

MAX_PRICES = 200
_MAX_DISPLAY_NAME = 200


def check_rate_card(card: RateCard) -> list[Violation]:
    """Everything wrong with a card, its prices included; empty if it can be used."""
    found = [check_resource_id(card.rate_card_id, "rate_card_id"), _check_display_name(card.display_name)]
    violations = [violation for violation in found if violation]
    if card.currency not in MINOR_DIGITS:
        violations.append(Violation("currency", "UNKNOWN_CURRENCY", "must be an active ISO 4217 code"))
    violations += _check_prices(card.prices, "prices")
    if card.further_currencies:
        violations += check_further_currencies(card)
        if not violations:
            for index, further in enumerate(card.further_currencies):
                violations += _check_prices(further.prices, f"further_currencies[{index}].prices")
    return violations


def _check_prices(prices: Sequence[Price], path: str) -> list[Violation]:
    if not prices:
        return [Violation(path, "REQUIRED", "must have at least one price")]
    if len(prices) > MAX_PRICES:
        return [Violation(path, "TOO_MANY", f"must have at most {MAX_PRICES} prices")]
    violations: list[Violation] = []
    seen: set[str] = set()
    units: dict[str, PriceUnit] = {}
    for index, price in enumerate(prices):
        violations += check_price(price, f"{path}[{index}]")
        if price.price_id in seen:
            violations.append(Violation(f"{path}[{index}].price_id", "NOT_UNIQUE", "names another price of the card"))
        seen.add(price.price_id)
        unit = price.terms.price_unit
        if unit is not None and units.setdefault(unit.name, unit) != unit:
            field = f"{path}[{index}].price_unit.amount"
            violations.append(Violation(field, "NOT_UNIQUE", f"{unit.name} costs something else in a price before"))
    return violations


def check_price(price: Price, path: str = "price") -> list[Violation]:
    """Everything wrong with a price; `path` is where it lies in the request, for example `prices[2]`."""
    found = [
        check_resource_id(price.price_id, f"{path}.price_id"),
        _check_display_name(price.display_name, f"{path}."),
        _check_meter(price, path),
        check_number(price.included_quantity, f"{path}.included_quantity"),
    ]
    violations = [
        *(violation for violation in found if violation),
        *check_model(price.model, path),
        *check_terms(price, path),
    ]
    if not violations and (too_long := check_precision(price, path)):
        violations.append(too_long)
    return violations


def _check_meter(price: Price, path: str) -> Violation | None:
    if not isinstance(price.model, Flat | LinesBefore):
        return check_resource_id(price.meter_id or "", f"{path}.meter_id")
    kind = "flat price" if isinstance(price.model, Flat) else "price of the lines before"
    if price.meter_id is not None:
        return Violation(f"{path}.meter_id", "NOT_ALLOWED", f"a {kind} has no meter")
    if price.included_quantity:
        return Violation(f"{path}.included_quantity", "NOT_ALLOWED", f"a {kind} has no included usage")
    return None


def _check_display_name(display_name: str, path: str = "") -> Violation | None:
    return check_text(display_name, f"{path}display_name", _MAX_DISPLAY_NAME) if display_name else None
