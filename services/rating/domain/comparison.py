"""Equations that have to hold, with both sides as they were found."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

MAX_DIFFERENCES = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which two sides disagree; a side on which it is missing is empty."""

    subject: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One equation: the totals of both sides and at most 100 differences."""

    name: str
    left: Decimal
    right: Decimal
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return self.left == self.right and not self.differences
