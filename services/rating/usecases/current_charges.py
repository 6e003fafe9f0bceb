"""What a customer's usage costs at this moment, whether or not it has been rated yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.charges import NO_DIMENSIONS
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.period_charge import NO_WINDOWS, PeriodCharge, exact_meters, matrix_meters
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import MeterUsage, UsageDigest, UsageScope
from services.rating.domain.windowed_price import cuts_of
from services.rating.usecases.commitment_terms import read_terms
from services.rating.usecases.fetch_usage import SCOPES_MAX
from services.rating.usecases.ports import IngestWindows, OpenWork
from services.rating.usecases.rate_periods import cards_of, charges_of


@dataclass(frozen=True, slots=True)
class CurrentCharges:
    """What a billing period costs now, in the order of the card; without versions."""

    period: BillingPeriod
    charges: Sequence[PeriodCharge]


@dataclass(frozen=True, slots=True)
class _Priced:
    """A billing period that can be priced by what its windows add up to, and what else its price depends on."""

    period: BillingPeriod
    card: RateCard
    told: Mapping[str, ExactUsage]
    so_far: Mapping[str, TermSoFar]

    def charges(self, digests: Mapping[str, UsageDigest]) -> list[PeriodCharge] | RatingProblem:
        usage = {meter_id: MeterUsage(digest, "") for meter_id, digest in digests.items()}
        return charges_of(self.period, self.card, usage, self.told, NO_DIMENSIONS, self.so_far, NO_WINDOWS)


class GetCurrentCharges:
    """Prices what ingest's windows add up to now, by the function that rates. Stores nothing.

    Usage arrives here in steps, the larger the more there is of it; who asks does not have to wait for them. No
    transaction is open while ingest is asked.
    """

    def __init__(self, open_work: OpenWork, ingest: IngestWindows) -> None:
        self._open_work = open_work
        self._ingest = ingest

    async def __call__(self, tenant_id: str, customer_id: str, at: datetime) -> list[CurrentCharges]:
        """Return the charges of the customer's billing periods that contain `at`.

        Left out: what cannot be priced at present, or by more than the quantities of the billing period. Quantities
        that do not add up are those that ingest told last.

        :raises ServiceError: if ingest does not answer
        """
        priced = await self._priced(tenant_id, customer_id, at)
        digests = await self._digests(tenant_id, {item.period.scope for item in priced})
        charges = [(item.period, item.charges(digests[item.period.scope])) for item in priced]
        return [CurrentCharges(period, found) for period, found in charges if not isinstance(found, RatingProblem)]

    async def _priced(self, tenant_id: str, customer_id: str, at: datetime) -> list[_Priced]:
        async with self._open_work(tenant_id) as work:
            periods = await work.customer_periods.containing(tenant_id, customer_id, at)
            if not periods:
                return []
            in_force = await cards_of(work, periods)
            cards = {key: card for key, card in in_force.items() if isinstance(card, RateCard)}
            told: Mapping[PeriodKey, Mapping[str, ExactUsage]] = await work.exact_usage.of_periods(list(cards))
            terms = await read_terms(work, cards)
        return [
            _Priced(period, cards[period.key], told[period.key], terms.so_far(period.key))
            for period in periods
            if period.key in cards and _by_quantities(cards[period.key], told[period.key])
        ]

    async def _digests(self, tenant_id: str, distinct: set[UsageScope]) -> dict[UsageScope, Mapping[str, UsageDigest]]:
        found: dict[UsageScope, Mapping[str, UsageDigest]] = {}
        scopes = list(distinct)
        for first in range(0, len(scopes), SCOPES_MAX):
            asked = scopes[first : first + SCOPES_MAX]
            found |= zip(asked, await self._ingest.digests(tenant_id, asked), strict=True)
        return found


def _by_quantities(card: RateCard, told: Mapping[str, ExactUsage]) -> bool:
    """Whether quantities are all that has to be known of the usage."""
    return not matrix_meters(card) and not cuts_of(card, "") and exact_meters(card) <= told.keys()
