"""What the items of a commitment have of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from libs.money import allocate, exact
from services.rating.domain.prices import ZERO


def shared_commitment(within: Decimal, items: Mapping[str, Decimal], digits: int) -> dict[str, Decimal]:
    """What each item has of the commitment, in proportion to its cost; the shares add up to `within`, which has at most
    so many digits.

    :raises ValueError: if it has more
    """
    with exact():
        minor = within.scaleb(digits)
        if minor != int(minor):
            raise ValueError(f"{within} has more than {digits} digits")
        if not minor:
            return dict.fromkeys(items, ZERO)
        parts = allocate(int(minor), list(items.values()))
        return {name: Decimal(part).scaleb(-digits) for name, part in zip(items, parts, strict=True)}
