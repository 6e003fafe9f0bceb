"""Ask ingest for the quantities that usage windows do not add up to."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from libs.database import retry_transient
from libs.errors import ServiceError
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.usage import ExactUsage, QuantityScope
from services.rating.usecases.ports import IngestWindows, OpenWork

SCOPES_MAX = 500
"""Scopes that one request to ingest may have."""

_logger = logging.getLogger(__name__)

_Wanted = tuple[PeriodKey, QuantityScope]


class RefreshExactUsage:
    """Asks for billing periods with prices on exact usage, and stores the answers. No transaction is open meanwhile.

    An answer covers every change that this service has heard of before it was asked.
    """

    def __init__(self, open_work: OpenWork, ingest: IngestWindows) -> None:
        self._open_work = open_work
        self._ingest = ingest

    async def wanted(self, keys: Sequence[PeriodKey]) -> Mapping[PeriodKey, Sequence[QuantityScope]]:
        """Return what has to be asked for billing periods; those that need nothing, as a rule all, are left out."""
        if not keys:
            return {}
        async with self._open_work(*sorted({key.tenant_id for key in keys})) as work:
            return await work.exact_usage.wanted(keys)

    async def __call__(self, wanted: Mapping[PeriodKey, Sequence[QuantityScope]]) -> set[PeriodKey]:
        """Ask, and return the periods for which that was in vain: what is stored of them may be old."""
        by_tenant: defaultdict[str, list[_Wanted]] = defaultdict(list)
        for key, scopes in wanted.items():
            by_tenant[key.tenant_id] += [(key, scope) for scope in scopes]
        unanswered: set[PeriodKey] = set()
        for tenant_id, asked in by_tenant.items():
            for first in range(0, len(asked), SCOPES_MAX):
                unanswered |= await self._ask(tenant_id, asked[first : first + SCOPES_MAX])
        return unanswered

    async def _ask(self, tenant_id: str, asked: Sequence[_Wanted]) -> set[PeriodKey]:
        try:
            quantities = await self._ingest.quantities(tenant_id, [scope for _, scope in asked])
        except (ServiceError, ValueError) as error:
            _logger.warning("ingest does not tell exact usage of %s: %s", tenant_id, error)
            return {key for key, _ in asked}
        found: dict[tuple[PeriodKey, str], ExactUsage] = {
            (key, scope.meter_id): quantity for (key, scope), quantity in zip(asked, quantities, strict=True)
        }

        async def save() -> None:
            async with self._open_work(tenant_id) as work:
                await work.exact_usage.save(found)

        await retry_transient(save)
        return set()
