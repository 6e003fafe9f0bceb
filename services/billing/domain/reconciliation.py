"""Equations that have to hold, with both sides as they were found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from libs.money import plain

DIFFERENCES_MAX = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which the sides disagree; a side on which it is missing is empty."""

    subject: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Check:
    """One equation; `differences` are at most 100."""

    name: str
    left: str
    right: str
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        return self.left == self.right and not self.differences

    @classmethod
    def of(cls, name: str, left: Decimal | int, right: Decimal | int, differences: Iterable[Difference]) -> Check:
        return cls(name, plain(Decimal(left)), plain(Decimal(right)), tuple(differences)[:DIFFERENCES_MAX])
