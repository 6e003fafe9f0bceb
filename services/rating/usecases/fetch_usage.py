"""Get usage windows from ingest, because streams are not history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.usage import UsageScope
from services.rating.usecases.apply_usage import ApplyUsage
from services.rating.usecases.ports import IngestWindows

SCOPES_MAX = 500
"""Scopes that one request to ingest may have."""


class FetchUsage:
    """Asks ingest for the windows of billing periods and applies them. No transaction is open meanwhile."""

    def __init__(self, ingest: IngestWindows, apply_usage: ApplyUsage) -> None:
        self._ingest = ingest
        self._apply_usage = apply_usage

    async def __call__(self, periods: Sequence[BillingPeriod]) -> None:
        """Apply all windows that ingest has for the periods.

        :raises ServiceError: if ingest does not answer; what came before stays applied
        """
        by_tenant: defaultdict[str, set[UsageScope]] = defaultdict(set)
        for period in periods:
            by_tenant[period.key.tenant_id].add(period.scope)
        for tenant_id, distinct in by_tenant.items():
            scopes = sorted(distinct, key=lambda scope: (scope.customer_id, scope.period))
            for first in range(0, len(scopes), SCOPES_MAX):
                async for batch in self._ingest.windows(tenant_id, scopes[first : first + SCOPES_MAX]):
                    await self._apply_usage(batch)
