"""Whole blocks of usage, in tiers that hold so many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from libs.money import exact
from services.rating.domain.prices import ZERO


class BlockTiers(StrEnum):
    """Which tiers price a quantity."""

    ALL_TIERS = "all_tiers"
    """The default: tier after tier is filled, each prices what is in it."""
    TOP_TIER = "top_tier"
    """The tier that the whole quantity reaches prices all of it."""


@dataclass(frozen=True, slots=True)
class BlockTier:
    """`max_blocks` blocks of `block_size` units, each at `block_price`; None holds any number.

    :raises ValueError: if a size or number is not positive, or the price negative
    """

    block_size: Decimal
    max_blocks: Decimal | None
    block_price: Decimal

    def __post_init__(self) -> None:
        if self.block_size <= 0 or (self.max_blocks is not None and self.max_blocks <= 0) or self.block_price < 0:
            raise ValueError(f"sizes and numbers of blocks must be positive, prices not negative: {self}")


class BlockPart(NamedTuple):
    """The blocks of one tier, begun ones included."""

    blocks: Decimal
    amount: Decimal


def rate_blocks(tiers: Sequence[BlockTier], quantity: Decimal, mode: BlockTiers) -> list[BlockPart]:
    """Price a quantity; one part per tier that prices some of it. What no tier holds belongs to the last one.

    Blocks are rounded up in each tier.

    :raises ValueError: if there is no tier
    :raises decimal.Inexact: if an amount does not fit the context of quantities
    """
    if not tiers:
        raise ValueError("there must be a tier")
    if quantity <= 0:
        return []
    with exact():
        if mode is BlockTiers.TOP_TIER:
            return [_part(_top_tier(tiers, quantity), quantity)]
        parts, left = [], quantity
        for tier in tiers[:-1]:
            capacity = _capacity(tier)
            held = left if capacity is None else min(left, capacity)
            parts.append(_part(tier, held))
            left -= held
            if not left:
                return parts
        return [*parts, _part(tiers[-1], left)]


def _top_tier(tiers: Sequence[BlockTier], quantity: Decimal) -> BlockTier:
    bound = ZERO
    for tier in tiers:
        capacity = _capacity(tier)
        if capacity is None or quantity <= (bound := bound + capacity):
            return tier
    return tiers[-1]


def _capacity(tier: BlockTier) -> Decimal | None:
    return None if tier.max_blocks is None else tier.max_blocks * tier.block_size


def _part(tier: BlockTier, units: Decimal) -> BlockPart:
    whole, rest = divmod(units, tier.block_size)
    blocks = whole + 1 if rest else whole
    return BlockPart(blocks, blocks * tier.block_price)
