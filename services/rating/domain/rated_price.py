"""What pricing returns: an exact amount and the parts that add up to it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from services.rating.domain.prices import ONE, ZERO


class PartKind(StrEnum):
    FLAT = "flat"
    PER_UNIT = "per_unit"
    PACKAGE = "package"
    TIER = "tier"
    STEP = "step"
    PERCENTAGE = "percentage"
    EVENTS = "events"
    """What is due for each event."""
    DYNAMIC = "dynamic"
    ROW = "row"
    """Usage with the dimensions that `label` tells."""
    BAND = "band"
    """Usage at the times that `label` names."""
    WINDOWS = "windows"
    """`quantity` hours or days, as `label` says, are priced each by itself; parts that follow are sums; no amount."""
    PRORATED = "prorated"
    """`quantity` of `per` days or seconds, as `label` says: the share of what is agreed on for a period; no amount."""
    CONVERTED = "converted"
    """The whole quantity in the units that are priced; no amount."""
    INCLUDED = "included"
    """Usage that is free before the model is applied."""
    MINIMUM = "minimum"
    """What is missing to the minimum amount."""
    MAXIMUM = "maximum"
    """What is above the maximum amount; negative."""
    OVERAGE = "overage"
    """What is above the commitment, an amount of money, and what is due for it beyond its price."""
    TRUE_UP = "true_up"
    """What is missing to the commitment."""
    TERM_USED = "term_used"
    """What earlier billing periods have used of a commitment over several, which `label` counts; no amount."""
    TERM_LEFT = "term_left"
    """What they have left of it; no amount."""
    DISCOUNT = "discount"
    """Negative."""
    PRICE_UNIT = "price_unit"
    """All parts before it are in the unit that `label` names: takes `quantity` of them off, and adds what they cost."""


class RatedPart(NamedTuple):
    """One step of a breakdown: `amount` = `quantity` x `unit_amount` + `flat_amount`, exactly.

    `quantity` counts units, or packages for PACKAGE, events for EVENTS, money for what is a share of money. A PER_UNIT
    price `per` more than one has `per` too: its amount is `quantity` x `unit_amount` / `per`. Of a TIER with a cap the
    amount may be lower. `from_quantity` (exclusive) and `up_to_quantity` (inclusive, None: open) bound a TIER or STEP
    and are None otherwise; they count after the included usage.
    """

    kind: PartKind
    quantity: Decimal
    unit_amount: Decimal
    amount: Decimal
    flat_amount: Decimal = ZERO
    from_quantity: Decimal | None = None
    up_to_quantity: Decimal | None = None
    per: Decimal = ONE
    label: str = ""


class RatedPrice(NamedTuple):
    """The exact amount, in major units, and its breakdown.

    `before_commitment`: what it was before a commitment over several billing periods, which the later ones count.
    """

    amount: Decimal
    parts: tuple[RatedPart, ...]
    before_commitment: Decimal | None = None


class NegativeQuantityRefused(ValueError):
    """A quantity is below zero and the options say to refuse it."""


class QuantityOutsideTiers(ValueError):
    """A quantity is above the bound of the last tier, which a valid price leaves open."""
