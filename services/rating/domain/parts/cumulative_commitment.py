"""A commitment over several billing periods, such as a year that is billed by month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from libs.money import allocate, exact
from services.rating.domain.prices import ONE, ZERO


@dataclass(frozen=True, slots=True)
class CumulativeCommitment:
    """An amount of money that is promised for all periods together; what is above it costs `overage_factor` times as
    much.

    :raises ValueError: if the amount is negative or the factor below 1
    """

    amount: Decimal
    overage_factor: Decimal = ONE

    def __post_init__(self) -> None:
        if self.amount < 0 or self.overage_factor < 1:
            raise ValueError(f"a commitment is not negative, and its overage not cheaper: {self}")


class CommittedPeriod(NamedTuple):
    """What a billing period costs: within what is left of the commitment, and above it."""

    within: Decimal
    overage: Decimal
    total: Decimal


def rate_committed_period(
    commitment: CumulativeCommitment, prior: Sequence[Decimal], current: Sequence[Decimal]
) -> CommittedPeriod:
    """Price a period whose items cost `current` before the commitment; `prior` are the same sums of earlier periods."""
    with exact():
        left = max(ZERO, commitment.amount - sum(prior, ZERO))
        cost = sum(current, ZERO)
        within = min(cost, left)
        overage = (cost - within) * commitment.overage_factor
        return CommittedPeriod(within, overage, within + overage)


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
