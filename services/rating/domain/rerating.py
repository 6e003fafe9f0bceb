"""What rating again changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import RatingProblem

Place = tuple[str, str, datetime]
"""Customer, subscription and start of a billing period, in the order of which billing periods are rated again."""
ReratingPlace = tuple[datetime, str, int]
"""When, by which request, and which of its changes, in the order of which changes are listed."""


class Cause(NamedTuple):
    """Why charges were rated again, who wanted it, and when (real time)."""

    reason: str
    actor: str
    at: datetime


class ReratedCharge(NamedTuple):
    """A charge before (None: there was none) and after; in a dry run the version of the latter never was."""

    before: PeriodCharge | None
    after: PeriodCharge


class ReratedPage(NamedTuple):
    """What came of a page of billing periods; `next_after` is where the next one begins, None after the last. A dry run
    has no cause."""

    period_count: int
    charges: Sequence[ReratedCharge]
    problems: Sequence[tuple[BillingPeriod, RatingProblem]]
    next_after: Place | None
    cause: Cause | None = None


def rerated_charges(
    before: Mapping[PeriodKey, Sequence[PeriodCharge]], after: Mapping[PeriodKey, Sequence[PeriodCharge]]
) -> list[ReratedCharge]:
    """Return the charges that have other versions than before."""
    found: list[ReratedCharge] = []
    for key, charges in after.items():
        known = {charge.price_id: charge for charge in before.get(key, ())}
        for charge in charges:
            old = known.get(charge.price_id)
            if old is None or old.version != charge.version:
                found.append(ReratedCharge(old, charge))
    return found
