"""A commitment over several billing periods, such as a year that is billed by month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from libs.money import exact
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
