"""Whether a card says the same in all of its currencies, except for amounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from libs.errors import Violation
from libs.money import MINOR_DIGITS
from services.rating.domain.price_terms import Commitment, CommitmentKind
from services.rating.domain.prices import PercentageTier
from services.rating.domain.rate_card import Price, RateCard

MAX_FURTHER_CURRENCIES = 20

_AMOUNTS = {
    "amount",
    "unit_amount",
    "flat_amount",
    "cap_amount",
    "default_unit_amount",
    "fixed_per_event",
    "minimum_amount",
    "maximum_amount",
}
_FIELDS_OF_CLIENTS = {"conversion": "unit_conversion", "zero_quantity_flat": "zero_quantity"}
_GROUPS = ("terms", "options")
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


def check_further_currencies(card: RateCard) -> list[Violation]:
    """Everything in which prices in further currencies differ from those of the card, except for amounts."""
    if len(card.further_currencies) > MAX_FURTHER_CURRENCIES:
        description = f"must be at most {MAX_FURTHER_CURRENCIES} currencies"
        return [Violation("further_currencies", "TOO_MANY", description)]
    violations: list[Violation] = []
    seen = {card.currency}
    for index, further in enumerate(card.further_currencies):
        path = f"further_currencies[{index}]"
        if further.currency not in MINOR_DIGITS:
            violations.append(Violation(f"{path}.currency", "UNKNOWN_CURRENCY", "must be an active ISO 4217 code"))
        elif further.currency in seen:
            violations.append(Violation(f"{path}.currency", "NOT_UNIQUE", "the card has prices in it already"))
        seen.add(further.currency)
        if len(further.prices) != len(card.prices):
            description = f"must have the {len(card.prices)} prices that there are in {card.currency}, in their order"
            violations.append(Violation(f"{path}.prices", "PRICES_DIFFER", description))
            continue
        for number, (price, same) in enumerate(zip(card.prices, further.prices, strict=True)):
            violations += _differences(price, same, f"{path}.prices[{number}]", card.currency)
    return violations


def _differences(price: Price, other: Price, path: str, currency: str) -> Iterator[Violation]:
    if price.price_id != other.price_id:
        description = f"must be {price.price_id}, as in {currency}"
        yield Violation(f"{path}.price_id", "PRICES_DIFFER", description)
        return
    for field in fields(price):
        mine, its = getattr(price, field.name), getattr(other, field.name)
        if field.name == "model":
            pairs = [(_WORD.sub("_", type(its).__name__).lower(), mine, its)]
        elif field.name in _GROUPS:
            pairs = [
                (_FIELDS_OF_CLIENTS.get(inner.name, inner.name), getattr(mine, inner.name), getattr(its, inner.name))
                for inner in fields(mine)
            ]
        else:
            pairs = [(field.name, mine, its)]
        for name, one, another in pairs:
            if not _alike(one, another, is_amount=name in _AMOUNTS):
                description = f"must be as in {currency}, except for amounts"
                yield Violation(f"{path}.{name}", "PRICES_DIFFER", description)


def _alike(one: Any, other: Any, *, is_amount: bool = False) -> bool:
    """Whether two values differ in amounts of money only."""
    if type(one) is not type(other):
        return False
    if is_amount:
        return True
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if is_dataclass(one):
        return all(
            _alike(getattr(one, field.name), getattr(other, field.name), is_amount=_holds_amount(one, field.name))
            for field in fields(one)
        )
    return bool(one == other)


def _holds_amount(holder: object, name: str) -> bool:
    if isinstance(holder, Commitment) and name == "value":
        return holder.kind is CommitmentKind.AMOUNT
    # Percentages are taken of money, and so are the bounds between them.
    return name in _AMOUNTS or (isinstance(holder, PercentageTier) and name == "up_to")
