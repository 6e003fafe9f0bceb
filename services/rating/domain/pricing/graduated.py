"""Each tier prices the units inside it."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import ZERO, Graduated, Tier, ZeroQuantityFlat
from services.rating.domain.rated_price import PartKind, QuantityOutsideTiers, RatedPart


def rate_graduated(price: Graduated, quantity: Decimal, zero_quantity_flat: ZeroQuantityFlat) -> tuple[RatedPart, ...]:
    """One part per tier that the quantity reaches; a bound still belongs to the tier below it.

    :raises QuantityOutsideTiers: if the last tier is bounded and the quantity beyond it
    """
    if not quantity and zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        return ()
    parts: list[RatedPart] = []
    tier_start = ZERO
    for tier in price.tiers:
        tier_end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        units = tier_end - tier_start
        parts.append(
            RatedPart(
                PartKind.TIER,
                quantity=units,
                unit_amount=tier.unit_amount,
                amount=_tier_amount(tier, units),
                flat_amount=tier.flat_amount,
                from_quantity=tier_start,
                up_to_quantity=tier.up_to,
            )
        )
        if tier_end == quantity:
            return tuple(parts)
        tier_start = tier_end
    raise QuantityOutsideTiers(f"no tier holds {quantity}")


def graduated_amount(price: Graduated, quantity: Decimal, zero_quantity_flat: ZeroQuantityFlat) -> Decimal:
    """The amount alone. Raises as `rate_graduated` does."""
    if not quantity and zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        return ZERO
    amount = tier_start = ZERO
    for tier in price.tiers:
        tier_end = quantity if tier.up_to is None else min(quantity, tier.up_to)
        amount += _tier_amount(tier, tier_end - tier_start)
        if tier_end == quantity:
            return amount
        tier_start = tier_end
    raise QuantityOutsideTiers(f"no tier holds {quantity}")


def _tier_amount(tier: Tier, units: Decimal) -> Decimal:
    amount = units * tier.unit_amount + tier.flat_amount
    return amount if tier.cap_amount is None else min(amount, tier.cap_amount)
