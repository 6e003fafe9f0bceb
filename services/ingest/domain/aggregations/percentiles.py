"""Percentiles by nearest rank: the smallest value that at least so many percent of all values do not exceed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from libs.money import Exact


def percentile(values: Sequence[Exact], percent: Decimal, zeros: int = 0) -> Exact | None:
    """Of the values and as many more zeros, the one with rank ceil(percent / 100 * how many there are), from 1; None of
    nothing.

    :raises ValueError: if the percentage is not above 0 and at most 100
    """
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile is above 0 and at most 100, not {percent}")
    count = len(values) + zeros
    if not count:
        return None
    rank = -(-Fraction(percent) * count // 100)
    ordered = sorted(values)
    below_zero = bisect_left(ordered, 0)
    if rank <= below_zero:
        return ordered[rank - 1]
    return Decimal(0) if rank <= below_zero + zeros else ordered[rank - zeros - 1]
