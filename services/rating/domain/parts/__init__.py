"""Prices of parts: single events, whole blocks, lines of a billing period, windows, shares.

Pure, and checked against public answers of other systems. No rate card can agree on them yet: docs/plans/rating.md says
what each of them waits for.
"""

from services.rating.domain.parts.blocks import BlockPart, BlockTier, BlockTiers, rate_blocks
from services.rating.domain.parts.capacity import CapacityTier, rate_capacity
from services.rating.domain.parts.commitment_shares import shared_commitment
from services.rating.domain.parts.discount_shares import discount_shares
from services.rating.domain.parts.event_percentage import (
    EventCharge,
    EventPercentage,
    EventsCharge,
    FreeUsage,
    rate_events,
)
from services.rating.domain.parts.line_split import (
    Adjustment,
    LinePosition,
    MaxSpend,
    MinSpend,
    PaymentTerm,
    SplitAmount,
    SplitCharge,
    UsageLine,
    adjusted_total,
    flat_line,
    included_in_line,
    progressive_lines,
    rate_line,
)
from services.rating.domain.parts.priced_times import (
    CommittedWindow,
    PricedTime,
    Window,
    rate_windows,
)
from services.rating.domain.parts.prorated_units import ProratedChange, rate_prorated_units

__all__ = [
    "Adjustment",
    "BlockPart",
    "BlockTier",
    "BlockTiers",
    "CapacityTier",
    "CommittedWindow",
    "EventCharge",
    "EventPercentage",
    "EventsCharge",
    "FreeUsage",
    "LinePosition",
    "MaxSpend",
    "MinSpend",
    "PaymentTerm",
    "PricedTime",
    "ProratedChange",
    "SplitAmount",
    "SplitCharge",
    "UsageLine",
    "Window",
    "adjusted_total",
    "discount_shares",
    "flat_line",
    "included_in_line",
    "progressive_lines",
    "rate_blocks",
    "rate_capacity",
    "rate_events",
    "rate_line",
    "rate_prorated_units",
    "rate_windows",
    "shared_commitment",
]
