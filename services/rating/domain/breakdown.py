"""A rated price as JSON: what is stored beside a charge to explain it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TypedDict

from libs.money import plain
from services.rating.domain.rated_price import PartKind, RatedPart, RatedPrice


class BreakdownPart(TypedDict):
    """One part; every value is text, numbers in canonical decimals, "" for a bound that does not exist."""

    kind: str
    from_quantity: str
    up_to_quantity: str
    quantity: str
    unit_amount: str
    flat_amount: str
    amount: str


class Breakdown(TypedDict):
    """The amount and the parts that add up to it."""

    amount: str
    parts: list[BreakdownPart]


def breakdown_of(rated: RatedPrice) -> Breakdown:
    """Equal rated prices give equal breakdowns, however their decimals were written (1.50 or 1.5)."""
    return Breakdown(
        amount=plain(rated.amount),
        parts=[
            BreakdownPart(
                kind=part.kind.value,
                from_quantity=_bound(part.from_quantity),
                up_to_quantity=_bound(part.up_to_quantity),
                quantity=plain(part.quantity),
                unit_amount=plain(part.unit_amount),
                flat_amount=plain(part.flat_amount),
                amount=plain(part.amount),
            )
            for part in rated.parts
        ],
    )


def rated_price_of(breakdown: Breakdown) -> RatedPrice:
    """The rated price that `breakdown_of` was given."""
    return RatedPrice(
        Decimal(breakdown["amount"]),
        tuple(
            RatedPart(
                PartKind(part["kind"]),
                quantity=Decimal(part["quantity"]),
                unit_amount=Decimal(part["unit_amount"]),
                amount=Decimal(part["amount"]),
                flat_amount=Decimal(part["flat_amount"]),
                from_quantity=_optional(part["from_quantity"]),
                up_to_quantity=_optional(part["up_to_quantity"]),
            )
            for part in breakdown["parts"]
        ),
    )


def breakdown_bytes(breakdown: Breakdown) -> bytes:
    """Canonical JSON in ASCII: equal breakdowns give equal bytes."""
    return json.dumps(breakdown, sort_keys=True, separators=(",", ":")).encode("ascii")


def _bound(quantity: Decimal | None) -> str:
    return "" if quantity is None else plain(quantity)


def _optional(text: str) -> Decimal | None:
    return Decimal(text) if text else None
