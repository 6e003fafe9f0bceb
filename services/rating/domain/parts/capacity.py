"""One price for everything up to limits of several kinds of usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.rating.domain.rated_price import QuantityOutsideTiers


@dataclass(frozen=True, slots=True)
class CapacityTier:
    """What usage within all limits costs; a limit of None, or none at all, holds any quantity."""

    limits: Mapping[str, Decimal | None]
    price: Decimal


def rate_capacity(tiers: Sequence[CapacityTier], usage: Mapping[str, Decimal]) -> Decimal:
    """The price of the first tier in which every kind of usage fits; a limit still belongs to its tier.

    :raises QuantityOutsideTiers: if it fits into none, which a price with an open last tier cannot have
    """
    for tier in tiers:
        limits = [(quantity, tier.limits.get(unit)) for unit, quantity in usage.items()]
        if all(limit is None or quantity <= limit for quantity, limit in limits):
            return tier.price
    raise QuantityOutsideTiers(f"no tier holds {dict(usage)}")
