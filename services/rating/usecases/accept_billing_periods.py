"""Take in billing periods as billing publishes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.ports import OpenWork


class AcceptBillingPeriods:
    """Stores new and changed periods with a roll-up of the windows at hand, then fetches those that are not.

    The period is stored first, so that it is rated from live usage even while ingest does not answer questions. Until
    its windows were fetched it stays marked as unfetched, and a repeated delivery fetches again.
    """

    def __init__(
        self, open_work: OpenWork, fetch_usage: FetchUsage, clock: Clock, on_marked: Callable[[], None]
    ) -> None:
        self._open_work = open_work
        self._fetch_usage = fetch_usage
        self._clock = clock
        self._on_marked = on_marked

    async def __call__(self, periods: Sequence[BillingPeriod]) -> None:
        """Accept periods of any tenants, in any order and repetition.

        :raises ServiceError: if ingest does not answer; the caller repeats
        """
        newest: dict[PeriodKey, BillingPeriod] = {}
        for period in periods:
            known = newest.get(period.key)
            if known is None or known.version < period.version:
                newest[period.key] = period
        if not newest:
            return
        tenants = sorted({key.tenant_id for key in newest})
        unfetched = await retry_transient(lambda: self._store(tenants, list(newest.values())))
        self._on_marked()
        if unfetched:
            await self._fetch_usage(unfetched)
            async with self._open_work(*tenants) as work:
                await work.periods.set_fetched(unfetched)

    async def _store(self, tenants: Sequence[str], periods: Sequence[BillingPeriod]) -> list[BillingPeriod]:
        async with self._open_work(*tenants) as work:
            await work.usage.lock(tenants, exclusive=True)
            changed = await work.periods.save(periods)
            if changed:
                await work.usage.rebuild(changed)
                await work.dimensions.rebuild(changed)
                await work.queue.mark(changed, self._clock(), urgent=True)
                await work.terms.mark_beside(changed, self._clock())
            return await work.periods.unfetched([period.key for period in periods])
