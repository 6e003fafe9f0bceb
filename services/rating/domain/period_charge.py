"""Charges of billing periods: what is stored, published and invoiced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from libs.money import RoundingMode
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.charges import NO_DIMENSIONS, Charge, rate_card_charges
from services.rating.domain.commitment_term import NO_TERM, TermSoFar
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.prices import Matrix
from services.rating.domain.pricing import ENGINE_VERSION
from services.rating.domain.rate_card import RateCard
from services.rating.domain.rated_price import RatedPart
from services.rating.domain.usage import DimensionedQuantity, MeterUsage
from services.rating.domain.usage_by_window import MeterCut, WindowedUsage, WindowQuantity

ZERO = Decimal(0)
NO_WINDOWS: Mapping[MeterCut, Sequence[WindowQuantity]] = {}


class PeriodCharge(NamedTuple):
    """The priced usage of one price in one billing period, with all that a consumer needs to know.

    `quantity` and `amount` are exact. `withdrawn`: the card in force no longer has the price, and the charge is zero.
    `override_id`: the override whose price it was, empty for the card's own. `before_commitment`: see `RatedPrice`; of
    a stored charge it is not known here.
    `version` and `trace_parent` tell when and by which trace the rest was said. (A named tuple, because thousands are
    made per second.)
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
    parts: tuple[RatedPart, ...]
    withdrawn: bool = False
    version: int = 0
    trace_parent: str = ""
    override_id: str = ""
    before_commitment: Decimal | None = None


class ChangedCharge(NamedTuple):
    """A charge that is stored otherwise or not at all; `content` is what it says, as it is stored and published."""

    charge: PeriodCharge
    content: bytes


def charges_of_period(
    period: BillingPeriod,
    card: RateCard,
    usage: Mapping[str, MeterUsage],
    exact: Mapping[str, ExactUsage],
    by_dimensions: Mapping[str, Sequence[DimensionedQuantity]] = NO_DIMENSIONS,
    so_far: Mapping[str, TermSoFar] = NO_TERM,
    by_cut: Mapping[MeterCut, Sequence[WindowQuantity]] = NO_WINDOWS,
) -> list[PeriodCharge]:
    """Price the usage of a billing period, in the order of the card; the charges carry their meter's trace.

    `exact` has the meters of all prices on exact usage, `by_dimensions` those of all matrices, `by_cut` what
    prices of windows and times of day need.

    :raises ArithmeticError: if an amount does not fit the context of quantities
    """
    quantities = {meter_id: meter.digest.value for meter_id, meter in usage.items()}
    quantities |= {meter_id: exact[meter_id].value for meter_id in exact_meters(card)}
    event_counts = {meter_id: meter.digest.event_count for meter_id, meter in usage.items()}
    windowed = WindowedUsage(period.period, period.time_zone, by_cut)
    charges = rate_card_charges(card, quantities, event_counts, by_dimensions, period.shortened, so_far, windowed)
    return [_period_charge(period, card, charge, usage) for charge in charges]


def exact_meters(card: RateCard) -> set[str]:
    """The meters whose quantity ingest has to tell."""
    return {price.meter_id for price in card.prices if price.exact_usage and price.meter_id}


def matrix_meters(card: RateCard) -> set[str]:
    """The meters whose quantities are needed by dimensions."""
    return {price.meter_id for price in card.prices if isinstance(price.model, Matrix) and price.meter_id}


def withdrawn_charge(stored: PeriodCharge, card: RateCard) -> PeriodCharge:
    """A stored charge that the card in force no longer makes, set to zero."""
    return stored._replace(
        quantity=ZERO,
        amount=ZERO,
        parts=(),
        withdrawn=True,
        override_id="",
        rate_card_id=card.rate_card_id,
        rate_card_version=card.version,
    )


def in_card_order(charges: Iterable[PeriodCharge]) -> list[PeriodCharge]:
    """Charges by position; withdrawn ones last, since the card in force has no place for them."""
    return sorted(charges, key=lambda charge: (charge.withdrawn, charge.position, charge.price_id))


def card_in_force(versions: Sequence[RateCard], at: datetime) -> RateCard | None:
    """The version that prices billing periods which start at `at`: the newest one effective by then."""
    effective = [card for card in versions if card.effective_at is None or card.effective_at <= at]
    return max(effective, key=lambda card: card.version, default=None)


def _period_charge(
    period: BillingPeriod, card: RateCard, charge: Charge, usage: Mapping[str, MeterUsage]
) -> PeriodCharge:
    price, rated = charge.price, charge.rated
    meter_id = price.meter_id or ""
    meter_usage = usage.get(meter_id)
    return PeriodCharge(
        key=period.key,
        period_end=period.period_end,
        customer_id=period.customer_id,
        price_id=price.price_id,
        display_name=price.display_name or price.price_id,
        meter_id=meter_id,
        position=charge.position,
        currency=card.currency,
        quantity=charge.quantity,
        amount=rated.amount,
        rounding_mode=price.rounding_mode,
        rate_card_id=card.rate_card_id,
        rate_card_version=card.version,
        engine_version=ENGINE_VERSION,
        parts=rated.parts,
        trace_parent=meter_usage.trace_parent if meter_usage else "",
        override_id=price.override_id,
        before_commitment=rated.before_commitment,
    )
