"""Make sure that billing periods contain all that ingest has recorded, before they are invoiced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.commitment_term import CountedPeriod
from services.rating.domain.exact_usage import Answers
from services.rating.domain.period_charge import PeriodCharge
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.commitment_terms import EARLIER_PERIOD_NOT_RATED, known_periods, unrated_before
from services.rating.usecases.fetch_billing_periods import FetchBillingPeriods
from services.rating.usecases.ports import OpenWork
from services.rating.usecases.rate_periods import RatedPeriods, rate_periods
from services.rating.usecases.repair_usage import RepairUsage

BILLING_PERIOD_UNKNOWN = "BILLING_PERIOD_UNKNOWN"
USAGE_DIFFERS = "USAGE_DIFFERS"
EARLIER_PERIODS_UNKNOWN = "EARLIER_PERIODS_UNKNOWN"


@dataclass(frozen=True, slots=True)
class ConfirmedCharges:
    """The charges of one billing period; `reason` says why they are not confirmed, and is empty if they are.

    `period` is what they are for, as it is known here; None if it is unknown.
    """

    period_start: datetime
    reason: str
    charges: list[PeriodCharge]
    period: BillingPeriod | None


class _Periods(NamedTuple):
    """Billing periods that were asked for; `terms`: all of those subscriptions whose periods may depend on earlier
    ones."""

    periods: list[BillingPeriod | None]
    terms: dict[str, list[CountedPeriod]]


class ConfirmCharges:
    """Compares digests with ingest, fetches what differs, rates again. No transaction is open during a call.

    Billing calls this, and is called for periods that are unknown here, and for all periods of a subscription of which
    earlier ones may count. It holds no transaction meanwhile either, and answers without calling back.
    """

    def __init__(
        self,
        open_work: OpenWork,
        repair_usage: RepairUsage,
        ask_quantities: AskQuantities,
        fetch_billing_periods: FetchBillingPeriods,
        clock: Clock,
        on_rated: Callable[[RatedPeriods], None],
    ) -> None:
        self._open_work = open_work
        self._repair_usage = repair_usage
        self._ask_quantities = ask_quantities
        self._fetch_billing_periods = fetch_billing_periods
        self._clock = clock
        self._on_rated = on_rated

    async def __call__(self, tenant_id: str, instants: Sequence[tuple[str, datetime]]) -> list[ConfirmedCharges]:
        """Return, for each (subscription, instant in the period), the charges to be invoiced.

        :raises ServiceError: if ingest does not answer
        """
        periods, terms = await self._periods(tenant_id, instants)
        new, unsure = await self._fetch_billing_periods.complete(tenant_id, terms) if terms else ([], set())
        if new:
            periods, terms = await self._stored(tenant_id, instants)
        distinct = {period.key: period for period in periods if period is not None}
        differing = await self._repair_usage(tenant_id, list(distinct.values()))
        keys = [*distinct, *(await self._unrated_before(tenant_id, list(distinct)) if terms else ())]
        # After the digests: it answers for everything that they have.
        answers = await self._ask_quantities(await self._ask_quantities.questions(keys))
        rated, charges = await retry_transient(lambda: self._rate(tenant_id, keys, answers))
        self._on_rated(rated)
        # What was compared with ingest is the usage of the period as it was then.
        differing |= {key for key, period in distinct.items() if rated.periods[key] != period}
        return [
            _confirmed(period, at, rated, charges, differing, unsure)
            for period, (_, at) in zip(periods, instants, strict=True)
        ]

    async def _periods(self, tenant_id: str, instants: Sequence[tuple[str, datetime]]) -> _Periods:
        """Return the periods that contain the instants; what billing's stream has not brought is fetched."""
        found = await self._stored(tenant_id, instants)
        unknown = [instant for instant, period in zip(instants, found.periods, strict=True) if period is None]
        if not unknown:
            return found
        await self._fetch_billing_periods(tenant_id, unknown)
        return await self._stored(tenant_id, instants)

    async def _stored(self, tenant_id: str, instants: Sequence[tuple[str, datetime]]) -> _Periods:
        async with self._open_work(tenant_id) as work:
            periods = await work.periods.containing(tenant_id, instants)
            keys = [period.key for period in periods if period is not None]
            return _Periods(periods, await known_periods(work, keys) if keys else {})

    async def _unrated_before(self, tenant_id: str, keys: Sequence[PeriodKey]) -> list[PeriodKey]:
        """Return the earlier periods on whose charges those of the periods may depend, as far as they are not rated."""
        async with self._open_work(tenant_id) as work:
            return await unrated_before(work, keys)

    async def _rate(
        self, tenant_id: str, keys: Sequence[PeriodKey], answers: Answers
    ) -> tuple[RatedPeriods, dict[PeriodKey, list[PeriodCharge]]]:
        async with self._open_work(tenant_id) as work:
            rated = await rate_periods(work, keys, self._clock, answers)
            return rated, await work.charges.of_periods(keys)


def _confirmed(
    period: BillingPeriod | None,
    at: datetime,
    rated: RatedPeriods,
    charges: Mapping[PeriodKey, list[PeriodCharge]],
    differing: set[PeriodKey],
    unsure: set[str],
) -> ConfirmedCharges:
    if period is None:
        return ConfirmedCharges(at, BILLING_PERIOD_UNKNOWN, [], None)
    if problem := rated.problems.get(period.key):
        return ConfirmedCharges(period.key.period_start, problem.reason, [], period)
    reason = USAGE_DIFFERS if period.key in differing else ""
    if not reason and (rated.depends(period.key, rated.unpriced) or rated.depends(period.key, differing)):
        reason = EARLIER_PERIOD_NOT_RATED
    if not reason and period.key.subscription_id in unsure:
        reason = EARLIER_PERIODS_UNKNOWN
    return ConfirmedCharges(period.key.period_start, reason, charges[period.key], period)
