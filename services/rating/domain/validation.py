"""What is wrong with a rate card, by the field names that clients use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import assert_never

from libs.errors import Violation
from libs.ids import check_resource_id, check_text
from libs.money import MINOR_DIGITS, plain
from services.rating.domain.prices import Flat, Graduated, Package, PerUnit, PriceModel, Tier, Volume
from services.rating.domain.rate_card import Price, RateCard

MAX_PRICES = 200
MAX_TIERS = 100
MAX_INTEGER_DIGITS = 20
MAX_SCALE = 12
_MAX_DISPLAY_NAME = 200


def check_rate_card(card: RateCard) -> list[Violation]:
    """Everything wrong with a card, its prices included; empty if it can be used."""
    found = [check_resource_id(card.rate_card_id, "rate_card_id"), _check_display_name(card.display_name)]
    violations = [violation for violation in found if violation]
    if card.currency not in MINOR_DIGITS:
        violations.append(Violation("currency", "UNKNOWN_CURRENCY", "must be an active ISO 4217 code"))
    if not card.prices:
        violations.append(Violation("prices", "REQUIRED", "must have at least one price"))
    if len(card.prices) > MAX_PRICES:
        violations.append(Violation("prices", "TOO_MANY", f"must have at most {MAX_PRICES} prices"))
        return violations
    seen: set[str] = set()
    for index, price in enumerate(card.prices):
        violations += check_price(price, f"prices[{index}]")
        if price.price_id in seen:
            violations.append(Violation(f"prices[{index}].price_id", "NOT_UNIQUE", "names another price of the card"))
        seen.add(price.price_id)
    return violations


def check_price(price: Price, path: str = "price") -> list[Violation]:
    """Everything wrong with a price; `path` is where it lies in the request, for example `prices[2]`."""
    found = [
        check_resource_id(price.price_id, f"{path}.price_id"),
        _check_display_name(price.display_name, f"{path}."),
        _check_meter(price, path),
        _check_number(price.included_quantity, f"{path}.included_quantity"),
    ]
    return [*(violation for violation in found if violation), *check_model(price.model, path)]


def check_model(model: PriceModel, path: str = "price") -> list[Violation]:
    """Everything wrong with the parameters of a model."""
    match model:
        case Flat(amount):
            found = [_check_number(amount, f"{path}.flat.amount")]
        case PerUnit(unit_amount):
            found = [_check_number(unit_amount, f"{path}.per_unit.unit_amount")]
        case Package(size, amount):
            found = [
                _check_number(size, f"{path}.package.package_size", above_zero=True),
                _check_number(amount, f"{path}.package.package_amount"),
            ]
        case Graduated(tiers):
            found = list(_check_tiers(tiers, f"{path}.graduated.tiers"))
        case Volume(tiers):
            found = list(_check_tiers(tiers, f"{path}.volume.tiers"))
        case _:
            assert_never(model)
    return [violation for violation in found if violation]


def _check_tiers(tiers: Sequence[Tier], path: str) -> Iterator[Violation | None]:
    if not tiers:
        yield Violation(path, "REQUIRED", "must have at least one tier")
    if len(tiers) > MAX_TIERS:
        yield Violation(path, "TOO_MANY", f"must have at most {MAX_TIERS} tiers")
        return
    previous: Decimal | None = None
    for index, tier in enumerate(tiers):
        at = f"{path}[{index}]"
        yield _check_number(tier.unit_amount, f"{at}.unit_amount")
        yield _check_number(tier.flat_amount, f"{at}.flat_amount")
        yield _check_bound(tier.up_to, previous, f"{at}.up_to", is_last=index == len(tiers) - 1)
        if tier.up_to is not None and tier.up_to.is_finite():
            previous = tier.up_to


def _check_bound(up_to: Decimal | None, previous: Decimal | None, field: str, *, is_last: bool) -> Violation | None:
    if is_last:
        return None if up_to is None else Violation(field, "LAST_TIER_BOUNDED", "the last tier must be open")
    if up_to is None:
        return Violation(field, "REQUIRED", "only the last tier may be open")
    if violation := _check_number(up_to, field, above_zero=True):
        return violation
    if previous is not None and up_to <= previous:
        return Violation(field, "NOT_INCREASING", f"must be above the previous bound {plain(previous)}")
    return None


def _check_meter(price: Price, path: str) -> Violation | None:
    if not isinstance(price.model, Flat):
        return check_resource_id(price.meter_id or "", f"{path}.meter_id")
    if price.meter_id is not None:
        return Violation(f"{path}.meter_id", "NOT_ALLOWED", "a flat price has no meter")
    if price.included_quantity:
        return Violation(f"{path}.included_quantity", "NOT_ALLOWED", "a flat price has no included usage")
    return None


def _check_number(value: Decimal, field: str, *, above_zero: bool = False) -> Violation | None:
    if not value.is_finite():
        return Violation(field, "NOT_A_NUMBER", "must be a finite number")
    if value < 0:
        return Violation(field, "NEGATIVE", "must not be negative")
    if above_zero and not value:
        return Violation(field, "NOT_POSITIVE", "must be above 0")
    # Before writing it out: Decimal("1e999999") is short here and a megabyte there.
    if value and value.adjusted() >= MAX_INTEGER_DIGITS:
        return Violation(field, "TOO_MANY_DIGITS", f"must have at most {MAX_INTEGER_DIGITS} digits before the point")
    if (value and value.adjusted() < -MAX_SCALE) or len(plain(value).partition(".")[2]) > MAX_SCALE:
        return Violation(field, "TOO_PRECISE", f"must have at most {MAX_SCALE} digits after the point")
    return None


def _check_display_name(display_name: str, path: str = "") -> Violation | None:
    return check_text(display_name, f"{path}display_name", _MAX_DISPLAY_NAME) if display_name else None
