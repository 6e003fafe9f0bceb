"""Charges of billing periods: what is stored, published and invoiced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from libs.money import RoundingMode
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.breakdown import BreakdownPart, breakdown_of
from services.rating.domain.charges import Charge, rate_card_charges
from services.rating.domain.pricing import ENGINE_VERSION
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import MeterUsage

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PeriodCharge:
    """The priced usage of one price in one billing period, with all that a consumer needs to know.

    `quantity` and `amount` are exact. `withdrawn`: the card in force no longer has the price, and the charge is zero.
    Two charges are equal if they say the same; `version` and `trace_parent` tell when and by which trace that was said.
    """

    key: PeriodKey
    period_end: datetime
    customer_id: str
    price_id: str
    display_name: str
    meter_id: str
    position: int
    currency: str
    quantity: Decimal
    amount: Decimal
    rounding_mode: RoundingMode
    rate_card_id: str
    rate_card_version: int
    engine_version: str
    parts: tuple[BreakdownPart, ...]
    withdrawn: bool = False
    version: int = field(default=0, compare=False)
    trace_parent: str = field(default="", compare=False)


def charges_of_period(
    period: BillingPeriod, card: RateCard, usage: Mapping[str, MeterUsage]
) -> tuple[PeriodCharge, ...]:
    """Price the usage of a billing period, in the order of the card; the charges carry their meter's trace.

    :raises ArithmeticError: if an amount does not fit the context of quantities
    """
    charges = rate_card_charges(card, {meter_id: meter.digest.value for meter_id, meter in usage.items()})
    return tuple(_period_charge(period, card, charge, usage) for charge in charges)


def withdrawn_charges(
    stored: Mapping[str, PeriodCharge], fresh: Sequence[PeriodCharge], card: RateCard
) -> list[PeriodCharge]:
    """The stored charges (by price) that the card no longer makes, set to zero."""
    gone = stored.keys() - {charge.price_id for charge in fresh}
    return [
        replace(
            stored[price_id],
            quantity=ZERO,
            amount=ZERO,
            parts=(),
            withdrawn=True,
            rate_card_id=card.rate_card_id,
            rate_card_version=card.version,
        )
        for price_id in sorted(gone)
    ]


def in_card_order(charges: Sequence[PeriodCharge]) -> list[PeriodCharge]:
    """Charges by position; withdrawn ones last, since the card in force has no place for them."""
    return sorted(charges, key=lambda charge: (charge.withdrawn, charge.position, charge.price_id))


def card_in_force(versions: Sequence[RateCard], at: datetime) -> RateCard | None:
    """The version that prices billing periods which start at `at`: the newest one effective by then."""
    effective = [card for card in versions if card.effective_at is None or card.effective_at <= at]
    return max(effective, key=lambda card: card.version, default=None)


def _period_charge(
    period: BillingPeriod, card: RateCard, charge: Charge, usage: Mapping[str, MeterUsage]
) -> PeriodCharge:
    price = charge.price
    meter_usage = usage.get(price.meter_id or "")
    return PeriodCharge(
        key=period.key,
        period_end=period.period_end,
        customer_id=period.customer_id,
        price_id=price.price_id,
        display_name=price.display_name or price.price_id,
        meter_id=price.meter_id or "",
        position=charge.position,
        currency=card.currency,
        quantity=charge.quantity,
        amount=charge.amount,
        rounding_mode=price.rounding_mode,
        rate_card_id=card.rate_card_id,
        rate_card_version=card.version,
        engine_version=ENGINE_VERSION,
        parts=tuple(breakdown_of(charge.rated)["parts"]),
        trace_parent=meter_usage.trace_parent if meter_usage else "",
    )
