"""Rate billing periods again from what their charges are made of, and keep what that changed and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.billing_period import BillingPeriod, PeriodKey, PeriodScope
from services.rating.domain.exact_usage import Answers
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import RatingProblem
from services.rating.domain.rerating import Cause, Place, ReratedCharge, ReratedPage, ReratingPlace, rerated_charges
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.confirm_charges import USAGE_DIFFERS
from services.rating.usecases.ports import OpenWork, Work
from services.rating.usecases.rate_periods import RatedPeriods, rate_periods
from services.rating.usecases.repair_usage import RepairUsage, rebuild_usage

_METHOD = "Rerate"
_Charges = Mapping[PeriodKey, Sequence[PeriodCharge]]
NO_CHARGES: _Charges = {}


@dataclass(frozen=True, slots=True)
class RerateRequest:
    """Who asks and how the request is recognised when it comes again; `fingerprint` digests it without its id."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    reason: str
    actor: str


class _UndoneError(Exception):
    """Ends the transaction of a dry run without a commit."""


class Rerate:
    """Does what confirming charges before an invoice does, for any billing periods, and says what it changed.

    A dry run is the same transaction without its commit, so that it cannot differ from the run.
    """

    def __init__(
        self,
        open_work: OpenWork,
        repair_usage: RepairUsage,
        ask_quantities: AskQuantities,
        clock: Clock,
        on_rated: Callable[[RatedPeriods], None],
    ) -> None:
        self._open_work = open_work
        self._repair_usage = repair_usage
        self._ask_quantities = ask_quantities
        self._clock = clock
        self._on_rated = on_rated

    async def __call__(
        self, request: RerateRequest, scope: PeriodScope, after: Place | None, limit: int
    ) -> ReratedPage:
        """Rate the next `limit` billing periods behind `after`; the first result if the request was carried out before.

        :raises RequestIdReused: if the request id came with another request before
        :raises ServiceError: if ingest does not answer
        """
        async with self._open_work(request.tenant_id) as work:
            carried_out = await work.requests.find(request.tenant_id, _METHOD, request.request_id, request.fingerprint)
            if carried_out is not None:
                return await _first_result(work, request, carried_out)
        periods, next_after = await self._page(scope, after, limit)
        lacking = await self._repair_usage.differing(request.tenant_id, periods)
        # What is fetched may be rated by others before it is here.
        before = await self._charges(request.tenant_id, lacking)
        differing = await self._repair_usage(request.tenant_id, lacking)
        answers = await self._answers(periods)

        async def rate() -> tuple[ReratedPage, RatedPeriods | None]:
            async with self._open_work(request.tenant_id) as work:
                now = self._clock()
                result_id = _result_id(len(periods), next_after, now)
                first = await work.requests.claim(
                    request.tenant_id, _METHOD, request.request_id, request.fingerprint, result_id, now
                )
                if first is not None:
                    return await _first_result(work, request, first), None
                rated, changed = await self._rate(work, request.tenant_id, periods, answers, before)
                cause = Cause(request.reason, request.actor, now)
                await work.reratings.save(request.request_id, cause, changed)
            problems = _problems(periods, rated, [period for period in periods if period.key in differing])
            return ReratedPage(len(periods), changed, problems, next_after, cause), rated

        page, rated = await retry_transient(rate)
        if rated is not None:
            self._on_rated(rated)
        return page

    async def dry_run(self, scope: PeriodScope, after: Place | None, limit: int) -> ReratedPage:
        """Return what would change with the usage that is here, and which billing periods lack some; stores nothing.

        :raises ServiceError: if ingest does not answer
        """
        periods, next_after = await self._page(scope, after, limit)
        differing = await self._repair_usage.differing(scope.tenant_id, periods)
        answers = await self._answers(periods)

        async def rate() -> ReratedPage:
            found: ReratedPage | None = None
            try:
                async with self._open_work(scope.tenant_id) as work:
                    rated, changed = await self._rate(work, scope.tenant_id, periods, answers)
                    undone = [change._replace(after=change.after._replace(version=0)) for change in changed]
                    found = ReratedPage(len(periods), undone, _problems(periods, rated, differing), next_after)
                    raise _UndoneError
            except _UndoneError:
                assert found is not None
                return found

        return await retry_transient(rate)

    async def _page(
        self, scope: PeriodScope, after: Place | None, limit: int
    ) -> tuple[Sequence[BillingPeriod], Place | None]:
        async with self._open_work(scope.tenant_id) as work:
            periods = await work.periods.by_customer(scope, after, limit + 1)
        if len(periods) <= limit:
            return periods, None
        last = periods[limit - 1]
        return periods[:limit], (last.customer_id, last.key.subscription_id, last.key.period_start)

    async def _answers(self, periods: Sequence[BillingPeriod]) -> Answers:
        return await self._ask_quantities(await self._ask_quantities.questions([period.key for period in periods]))

    async def _charges(self, tenant_id: str, periods: Sequence[BillingPeriod]) -> _Charges:
        if not periods:
            return {}
        async with self._open_work(tenant_id) as work:
            return await work.charges.of_periods([period.key for period in periods])

    async def _rate(
        self,
        work: Work,
        tenant_id: str,
        periods: Sequence[BillingPeriod],
        answers: Answers,
        known_before: _Charges = NO_CHARGES,
    ) -> tuple[RatedPeriods, list[ReratedCharge]]:
        keys = [period.key for period in periods]
        await rebuild_usage(work, tenant_id, keys)
        # Only who holds the rows of billing periods changes their charges.
        await work.periods.lock(keys)
        before = {**await work.charges.of_periods(keys), **known_before}
        rated = await rate_periods(work, keys, self._clock, answers)
        return rated, rerated_charges(before, await work.charges.of_periods(keys))


class ListReratedCharges:
    """Reads what reratings have changed."""

    def __init__(self, open_work: OpenWork) -> None:
        self._open_work = open_work

    async def __call__(
        self, tenant_id: str, subscription_id: str, before: ReratingPlace | None, limit: int
    ) -> list[tuple[ReratedCharge, Cause, ReratingPlace]]:
        """Return what was changed before a place, newest first, of one subscription or (empty) of all."""
        async with self._open_work(tenant_id) as work:
            return await work.reratings.newest_first(tenant_id, subscription_id, before, limit)


def _problems(
    periods: Sequence[BillingPeriod], rated: RatedPeriods, differing: Sequence[BillingPeriod]
) -> list[tuple[BillingPeriod, RatingProblem]]:
    lacking = RatingProblem(USAGE_DIFFERS, "the usage windows are not those of ingest")
    problems = [(period, rated.problems[period.key]) for period in periods if period.key in rated.problems]
    return [*problems, *((period, lacking) for period in differing)]


def _result_id(period_count: int, next_after: Place | None, now: datetime) -> str:
    place = None if next_after is None else [*next_after[:2], next_after[2].isoformat()]
    return json.dumps([period_count, place, now.isoformat()])


async def _first_result(work: Work, request: RerateRequest, result_id: str) -> ReratedPage:
    """What a request did when it came first; its problems are not kept, they are those of rating."""
    period_count, place, at = json.loads(result_id)
    next_after = None if place is None else (place[0], place[1], datetime.fromisoformat(place[2]))
    changed = await work.reratings.of_request(request.tenant_id, request.request_id)
    cause = Cause(request.reason, request.actor, datetime.fromisoformat(at))
    return ReratedPage(period_count, changed, [], next_after, cause)
