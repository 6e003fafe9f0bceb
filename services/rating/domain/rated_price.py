"""What pricing returns: an exact amount and the parts that add up to it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from services.rating.domain.prices import ZERO


class PartKind(StrEnum):
    FLAT = "flat"
    PER_UNIT = "per_unit"
    PACKAGE = "package"
    TIER = "tier"
    INCLUDED = "included"
    """Usage that is free before the model is applied."""


class RatedPart(NamedTuple):
    """One step of a breakdown: `amount` = `quantity` x `unit_amount` + `flat_amount`, exactly.

    `quantity` counts units, or packages for PACKAGE. `from_quantity` (exclusive) and `up_to_quantity` (inclusive,
    None: open) bound a TIER and are None otherwise; they count after the included usage.
    """

    kind: PartKind
    quantity: Decimal
    unit_amount: Decimal
    amount: Decimal
    flat_amount: Decimal = ZERO
    from_quantity: Decimal | None = None
    up_to_quantity: Decimal | None = None


class RatedPrice(NamedTuple):
    """The exact amount, in major units, and its breakdown."""

    amount: Decimal
    parts: tuple[RatedPart, ...]


class NegativeQuantityRefused(ValueError):
    """A quantity is below zero and the options say to refuse it."""


class QuantityOutsideTiers(ValueError):
    """A quantity is above the bound of the last tier, which a valid price leaves open."""
