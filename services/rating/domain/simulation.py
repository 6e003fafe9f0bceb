"""What another rate card would have charged for a billing period, beside what is charged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from libs.money import round_to_minor
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import RatingProblem


class SimulatedLine(NamedTuple):
    """The prices of the two cards that have the same id, in minor units; None where a card has none."""

    price_id: str
    current: int | None
    simulated: int | None


class SimulatedPeriod(NamedTuple):
    """A billing period as it is charged by the card in force, and as it would be; nothing of it with a `problem`."""

    period: BillingPeriod
    currency: str
    rate_card_version: int = 0
    lines: Sequence[SimulatedLine] = ()
    problem: RatingProblem | None = None

    @property
    def place(self) -> tuple[str, str, datetime]:
        """In the order of simulations: customer, subscription and start."""
        return self.period.customer_id, self.period.key.subscription_id, self.period.key.period_start

    @property
    def current(self) -> int:
        """Minor units."""
        return sum(line.current or 0 for line in self.lines)

    @property
    def simulated(self) -> int:
        """Minor units."""
        return sum(line.simulated or 0 for line in self.lines)


def compare(
    period: BillingPeriod, current: Sequence[PeriodCharge], simulated: Sequence[PeriodCharge], currency: str
) -> SimulatedPeriod:
    """Compare charges of one billing period in one currency, rounded as invoice lines are; lines by price id."""
    now, then = _minor_units(current), _minor_units(simulated)
    lines = [SimulatedLine(price_id, now.get(price_id), then.get(price_id)) for price_id in sorted(now | then)]
    version = current[0].rate_card_version if current else 0
    return SimulatedPeriod(period, currency, version, lines)


def _minor_units(charges: Sequence[PeriodCharge]) -> dict[str, int]:
    return {
        charge.price_id: round_to_minor(charge.amount, charge.currency, charge.rounding_mode).minor_units
        for charge in charges
    }
