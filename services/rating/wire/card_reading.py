"""Reading numbers of a card from the wire, and collecting what cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from libs.errors import Violation
from libs.money import DecimalRejected, parse_decimal

WireT = TypeVar("WireT")
ValueT = TypeVar("ValueT")


@dataclass(slots=True)
class Reading:
    """What could not be read so far; a placeholder then stands in its place."""

    violations: list[Violation] = field(default_factory=list)

    def number(self, text: str, path: str, *, default: Decimal | None = None) -> Decimal:
        """Return a decimal; an empty text is the default, if there is one."""
        if not text and default is not None:
            return default
        try:
            return parse_decimal(text)
        except DecimalRejected as error:
            self.add(path, error.reason, str(error))
            return Decimal("NaN")

    def number_or_none(self, text: str, path: str) -> Decimal | None:
        """Return a decimal, or None for an empty text."""
        return self.number(text, path) if text else None

    def choice(self, values: Mapping[WireT, ValueT], chosen: WireT, path: str, fallback: ValueT) -> ValueT:
        """Return what an enum's number stands for."""
        if chosen not in values:
            self.add(path, "UNKNOWN_VALUE", "is not a known value")
        return values.get(chosen, fallback)

    def add(self, path: str, reason: str, description: str) -> None:
        self.violations.append(Violation(path, reason, description))
