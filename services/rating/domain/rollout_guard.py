"""How much a new version of a card may change what customers pay."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from libs.periods import Period


@dataclass(frozen=True, slots=True)
class RolloutGuard:
    """A rise or a fall of so many per cent of what a customer pays for past billing periods that the card prices.

    `within`: those that start in it. With a reason to override it, nothing is checked.
    """

    within: Period
    max_change_percent: Decimal
    override_reason: str = ""
