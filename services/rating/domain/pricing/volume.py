"""The tier that contains the whole quantity prices all of it."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import ZERO, Tier, Volume, ZeroQuantityFlat
from services.rating.domain.rated_price import PartKind, QuantityOutsideTiers, RatedPart


def rate_volume(price: Volume, quantity: Decimal, zero_quantity_flat: ZeroQuantityFlat) -> tuple[RatedPart, ...]:
    """One part: the whole quantity in its tier; a bound still belongs to the tier below it.

    :raises QuantityOutsideTiers: if the last tier is bounded and the quantity beyond it
    """
    if not quantity and zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        return ()
    tier_start, tier = _tier_of(price, quantity)
    return (
        RatedPart(
            PartKind.TIER,
            quantity=quantity,
            unit_amount=tier.unit_amount,
            amount=_tier_amount(tier, quantity),
            flat_amount=tier.flat_amount,
            from_quantity=tier_start,
            up_to_quantity=tier.up_to,
        ),
    )


def volume_amount(
    price: Volume, quantity: Decimal, zero_quantity_flat: ZeroQuantityFlat, tier_quantity: Decimal | None = None
) -> Decimal:
    """The amount alone. Raises as `rate_volume` does. `tier_quantity` chooses the tier, if it is another one: what a
    group of subscriptions uses together, say."""
    if not quantity and zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        return ZERO
    _, tier = _tier_of(price, quantity if tier_quantity is None else tier_quantity)
    return _tier_amount(tier, quantity)


def _tier_amount(tier: Tier, quantity: Decimal) -> Decimal:
    amount = quantity * tier.unit_amount + tier.flat_amount
    return amount if tier.cap_amount is None else min(amount, tier.cap_amount)


def _tier_of(price: Volume, quantity: Decimal) -> tuple[Decimal, Tier]:
    tier_start = ZERO
    for tier in price.tiers:
        if tier.up_to is None or quantity <= tier.up_to:
            return tier_start, tier
        tier_start = tier.up_to
    raise QuantityOutsideTiers(f"no tier holds {quantity}")
