"""The amount of the step that contains the whole quantity."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import ZERO, Stairstep, ZeroQuantityFlat
from services.rating.domain.rated_price import PartKind, QuantityOutsideTiers, RatedPart


def rate_stairstep(price: Stairstep, quantity: Decimal, zero_quantity_flat: ZeroQuantityFlat) -> tuple[RatedPart, ...]:
    """One part, whose quantity is the number of units in the step; a bound still belongs to the step below it.

    :raises QuantityOutsideTiers: if the last step is bounded and the quantity beyond it
    """
    if not quantity and zero_quantity_flat is ZeroQuantityFlat.NO_CHARGE:
        return ()
    step_start = ZERO
    for step in price.steps:
        if step.up_to is None or quantity <= step.up_to:
            part = RatedPart(
                PartKind.STEP,
                quantity=quantity,
                unit_amount=ZERO,
                amount=step.amount,
                flat_amount=step.amount,
                from_quantity=step_start,
                up_to_quantity=step.up_to,
            )
            return (part,)
        step_start = step.up_to
    raise QuantityOutsideTiers(f"no step holds {quantity}")


def stairstep_amount(price: Stairstep, quantity: Decimal, zero_quantity_flat: ZeroQuantityFlat) -> Decimal:
    """The amount alone. Raises as `rate_stairstep` does."""
    parts = rate_stairstep(price, quantity, zero_quantity_flat)
    return parts[0].amount if parts else ZERO
