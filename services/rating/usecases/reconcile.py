"""Check the equations inside rating and towards ingest. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.money import plain
from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.comparison import MAX_DIFFERENCES, Comparison, Difference
from services.rating.domain.usage import UsageDigest, UsageScope
from services.rating.usecases.fetch_usage import SCOPES_MAX
from services.rating.usecases.ports import IngestWindows, OpenWork


class Reconcile:
    """Compares what is stored. While usage flows, differences may show what is under way."""

    def __init__(self, open_work: OpenWork, ingest: IngestWindows) -> None:
        self._open_work = open_work
        self._ingest = ingest

    async def __call__(self, tenant_id: str, within: Period | None) -> list[Comparison]:
        """Return every equation for the billing periods that start within a time (None: all).

        :raises ServiceError: if ingest does not answer
        """
        comparisons = [await self._with_ingest(tenant_id, within)]
        async with self._open_work(tenant_id) as work:
            comparisons += await work.reconciliation.compare(tenant_id, within)
        return comparisons

    async def _with_ingest(self, tenant_id: str, within: Period | None) -> Comparison:
        ours_total, theirs_total = Decimal(0), Decimal(0)
        differences: list[Difference] = []
        last: BillingPeriod | None = None
        seen: set[UsageScope] = set()
        while True:
            async with self._open_work(tenant_id) as work:
                after = last.key if last else None
                periods = await work.periods.starting_in(tenant_id, within, after, SCOPES_MAX)
                scopes = list(dict.fromkeys(period.scope for period in periods if period.scope not in seen))
                ours = await work.usage.digests(tenant_id, scopes)
            if not periods:
                return Comparison(
                    "usage windows = usage windows of ingest", ours_total, theirs_total, tuple(differences)
                )
            theirs = await self._ingest.digests(tenant_id, scopes) if scopes else []
            for digests in ours:
                ours_total += sum(digest.window_count for digest in digests.values())
            for digests in theirs:
                theirs_total += sum(digest.window_count for digest in digests.values())
            differences += _differences(scopes, ours, theirs)[: MAX_DIFFERENCES - len(differences)]
            seen.update(scopes)
            last = periods[-1]


def _differences(
    scopes: Sequence[UsageScope], ours: Sequence[dict[str, UsageDigest]], theirs: Sequence[dict[str, UsageDigest]]
) -> list[Difference]:
    return [
        Difference(
            f"customer {scope.customer_id}, meter {meter_id}, from {scope.period.start.isoformat()}",
            _shown(left.get(meter_id)),
            _shown(right.get(meter_id)),
        )
        for scope, left, right in zip(scopes, ours, theirs, strict=True)
        for meter_id in sorted(left.keys() | right.keys())
        if left.get(meter_id) != right.get(meter_id)
    ]


def _shown(digest: UsageDigest | None) -> str:
    if digest is None:
        return ""
    counts = f"{digest.event_count} events and {digest.window_count} windows"
    return f"{plain(digest.value)} in {counts}, version {digest.highest_version}"
