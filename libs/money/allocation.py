"""Splitting a whole amount so that the parts add up."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction


def allocate(total_minor: int, weights: Sequence[Decimal | int]) -> list[int]:
    """Split minor units in proportion to the weights by largest remainder; the parts add up to `total_minor`.

    Every part is its exact share rounded to a neighbouring whole unit; equal remainders go to the earlier part. A
    negative total is split as its mirror image.

    :raises ValueError: if a weight is negative, or all are zero (or there are none) and the total is not
    """
    if any(weight < 0 for weight in weights):
        raise ValueError("weights must not be negative")
    exact_weights = [Fraction(weight) for weight in weights]
    whole = sum(exact_weights)
    if not whole:
        if total_minor:
            raise ValueError(f"nothing to spread {total_minor} over: all weights are zero")
        return [0] * len(weights)
    magnitude = abs(total_minor)
    shares = [magnitude * weight / whole for weight in exact_weights]
    parts = [share.numerator // share.denominator for share in shares]
    # sorted() is stable, so equal remainders keep the order of the input.
    by_remainder = sorted(range(len(parts)), key=lambda index: parts[index] - shares[index])
    for index in by_remainder[: magnitude - sum(parts)]:
        parts[index] += 1
    return parts if total_minor >= 0 else [-part for part in parts]
