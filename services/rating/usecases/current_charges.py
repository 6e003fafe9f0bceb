"""What a customer's usage costs at this moment, whether or not it has been rated yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.charges import NO_DIMENSIONS
from services.rating.domain.commitment_term import TermSoFar
from services.rating.domain.current_usage import CurrentUsage, needs_windows, usage_of_windows
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.period_charge import NO_WINDOWS, PeriodCharge, exact_meters
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rate_card import RateCard
from services.rating.domain.usage import MeterUsage, UsageScope, WindowRow
from services.rating.usecases.commitment_terms import read_terms
from services.rating.usecases.fetch_usage import SCOPES_MAX
from services.rating.usecases.ports import IngestWindows, OpenWork
from services.rating.usecases.rate_periods import cards_of, charges_of

MAX_WINDOWS = 50_000
"""That a question may look at one by one, of one billing period."""


@dataclass(frozen=True, slots=True)
class CurrentCharges:
    """What a billing period costs now, in the order of the card; without versions."""

    period: BillingPeriod
    charges: Sequence[PeriodCharge]


@dataclass(frozen=True, slots=True)
class _Priced:
    """A billing period with the card in force, and what its price depends on beside usage that adds up."""

    period: BillingPeriod
    card: RateCard
    told: Mapping[str, ExactUsage]
    so_far: Mapping[str, TermSoFar]

    def charges(self, usage: CurrentUsage) -> list[PeriodCharge] | RatingProblem:
        by_meter, by_dimensions, by_cut = usage
        return charges_of(self.period, self.card, by_meter, self.told, by_dimensions, self.so_far, by_cut)


class GetCurrentCharges:
    """Prices what ingest's windows are now, by the function that rates. Stores nothing.

    Usage arrives here in steps, the larger the more there is of it; who asks does not have to wait for them. No
    transaction is open while ingest is asked.
    """

    def __init__(self, open_work: OpenWork, ingest: IngestWindows) -> None:
        self._open_work = open_work
        self._ingest = ingest

    async def __call__(self, tenant_id: str, customer_id: str, at: datetime) -> list[CurrentCharges]:
        """Return the charges of the customer's billing periods that contain `at`.

        Left out: what cannot be priced at present, and a period with more than `MAX_WINDOWS` windows to look at one by
        one. Quantities that do not add up are those that ingest told last.

        :raises ServiceError: if ingest does not answer
        """
        priced = await self._priced(tenant_id, customer_id, at)
        digests = await self._digests(tenant_id, {item.period.scope for item in priced if not needs_windows(item.card)})
        current: list[CurrentCharges] = []
        for item in priced:
            usage = digests.get(item.period.scope)
            if needs_windows(item.card):
                usage = await self._windows(tenant_id, item)
            charges = None if usage is None else item.charges(usage)
            if charges is not None and not isinstance(charges, RatingProblem):
                current.append(CurrentCharges(item.period, charges))
        return current

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
            if period.key in cards and exact_meters(cards[period.key]) <= told[period.key].keys()
        ]

    async def _digests(self, tenant_id: str, distinct: set[UsageScope]) -> dict[UsageScope, CurrentUsage]:
        found: dict[UsageScope, CurrentUsage] = {}
        scopes = list(distinct)
        for first in range(0, len(scopes), SCOPES_MAX):
            asked = scopes[first : first + SCOPES_MAX]
            for scope, digests in zip(asked, await self._ingest.digests(tenant_id, asked), strict=True):
                by_meter = {meter_id: MeterUsage(digest, "") for meter_id, digest in digests.items()}
                found[scope] = CurrentUsage(by_meter, NO_DIMENSIONS, NO_WINDOWS)
        return found

    async def _windows(self, tenant_id: str, priced: _Priced) -> CurrentUsage | None:
        """Return the usage by windows of one period; None if there are too many."""
        rows: list[WindowRow] = []
        async for batch in self._ingest.windows(tenant_id, [priced.period.scope]):
            rows += batch.rows()
            if len(rows) > MAX_WINDOWS:
                return None
        return usage_of_windows(rows, priced.card, priced.period)
