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


class Tally:
    """Both sides of one equation, item after item, in constant memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = self._right = Decimal(0)
        self._differences: list[Difference] = []

    def add(self, subject: str, left: Decimal | None, right: Decimal | None) -> None:
        """Count an item; a side on which it is missing is None."""
        if left != right:
            self.differ(Difference(subject, _text(left), _text(right)))
        self.count(left or Decimal(0), right or Decimal(0))

    def count(self, left: Decimal, right: Decimal) -> None:
        """Count an item that is compared by more than these values."""
        self._left += left
        self._right += right

    def differ(self, difference: Difference) -> None:
        if len(self._differences) < DIFFERENCES_MAX:
            self._differences.append(difference)

    def check(self) -> Check:
        return Check.of(self._name, self._left, self._right, self._differences)


def _text(value: Decimal | None) -> str:
    return "" if value is None else plain(value)
