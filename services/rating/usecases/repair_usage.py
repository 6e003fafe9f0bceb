"""Make the usage of billing periods what ingest has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from libs.database import retry_transient
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.ports import IngestWindows, OpenWork, Work

_REPAIRS = 2
"""More than one, because usage may go on changing while it is compared; few, because callers ask again later."""


class RepairUsage:
    """Compares digests with ingest and fetches what differs. No transaction is open during a call."""

    def __init__(self, open_work: OpenWork, ingest: IngestWindows, fetch_usage: FetchUsage) -> None:
        self._open_work = open_work
        self._ingest = ingest
        self._fetch_usage = fetch_usage

    async def __call__(self, tenant_id: str, periods: Sequence[BillingPeriod]) -> set[PeriodKey]:
        """Return the periods that still differ from ingest after the repairs.

        :raises ServiceError: if ingest does not answer
        """
        differing = await self.differing(tenant_id, periods)
        for _ in range(_REPAIRS):
            if not differing:
                break
            await self._fetch_usage(differing)
            await retry_transient(partial(self._rebuild, tenant_id, [period.key for period in differing]))
            differing = await self.differing(tenant_id, differing)
        return {period.key for period in differing}

    async def differing(self, tenant_id: str, periods: Sequence[BillingPeriod]) -> list[BillingPeriod]:
        """Return the periods that differ from ingest.

        :raises ServiceError: if ingest does not answer
        """
        if not periods:
            return []
        theirs = await self._ingest.digests(tenant_id, [period.scope for period in periods])
        async with self._open_work(tenant_id) as work:
            keys = [period.key for period in periods]
            ours = await work.usage.of_periods(keys)
            split_otherwise = await work.dimensions.differing(keys)
        return [
            period
            for period, digests in zip(periods, theirs, strict=True)
            if period.key in split_otherwise
            or digests != {meter_id: usage.digest for meter_id, usage in ours[period.key].items()}
        ]

    async def _rebuild(self, tenant_id: str, keys: Sequence[PeriodKey]) -> None:
        async with self._open_work(tenant_id) as work:
            await rebuild_usage(work, tenant_id, keys)


async def rebuild_usage(work: Work, tenant_id: str, keys: Sequence[PeriodKey]) -> None:
    """Build the roll-ups from the windows again, in case it was they that differed."""
    await work.usage.lock([tenant_id], exclusive=True)
    await work.usage.rebuild(keys)
    await work.dimensions.rebuild(keys)
