"""A discount on several lines: what each of them has of it, in minor units."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.money import RoundingFunction, allocate, round_exact
from services.rating.domain.price_terms import AmountDiscount, Discount


def discount_shares(discount: Discount, amounts: Sequence[int]) -> list[int]:
    """An amount (in minor units) is shared in proportion to the lines, and at most their sum. A percentage is
    rounded on each line, half away from zero.

    :raises ValueError: if a line is negative
    """
    if any(amount < 0 for amount in amounts):
        raise ValueError("there is no discount on a negative line")
    if isinstance(discount, AmountDiscount):
        return allocate(min(int(discount.amount), sum(amounts)), amounts)
    share = discount.percent.scaleb(-2)
    return [int(round_exact(Decimal(amount) * share, RoundingFunction.ROUND, 0)) for amount in amounts]
