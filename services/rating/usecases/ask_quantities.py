"""Ask ingest for the quantities that usage windows do not add up to."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from libs.errors import NotFound, ServiceError
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import Answers, ExactUsage, QuantityScope, Questions
from services.rating.usecases.ports import IngestWindows, OpenWork

SCOPES_MAX = 500
"""Scopes that one request to ingest may have."""

_TENANTS_AT_ONCE = 4

_logger = logging.getLogger(__name__)

_Asked = tuple[PeriodKey, QuantityScope]


class AskQuantities:
    """Asks for billing periods with prices on exact usage. No transaction is open meanwhile.

    An answer covers every change that this service has heard of before the questions were drawn up.
    """

    def __init__(self, open_work: OpenWork, ingest: IngestWindows) -> None:
        self._open_work = open_work
        self._ingest = ingest

    async def questions(self, keys: Sequence[PeriodKey]) -> Questions:
        """Return what has to be asked for billing periods, as a rule nothing."""
        if not keys:
            return Questions(0, {})
        async with self._open_work(*sorted({key.tenant_id for key in keys})) as work:
            return await work.exact_usage.wanted(keys)

    async def __call__(self, questions: Questions) -> Answers:
        """Return what ingest tells; the questions of tenants for which it does not answer are left out."""
        by_tenant: defaultdict[str, list[_Asked]] = defaultdict(list)
        for key, scopes in questions.wanted.items():
            by_tenant[key.tenant_id] += [(key, scope) for scope in scopes]
        at_once = asyncio.Semaphore(_TENANTS_AT_ONCE)

        async def ask(tenant_id: str, asked: Sequence[_Asked]) -> dict[_Asked, ExactUsage]:
            async with at_once:
                return await self._ask_in_portions(tenant_id, asked)

        answered = await asyncio.gather(*(ask(*item) for item in by_tenant.items()))
        return Answers(questions.number, {asked: exact for told in answered for asked, exact in told.items()})

    async def _ask_in_portions(self, tenant_id: str, asked: Sequence[_Asked]) -> dict[_Asked, ExactUsage]:
        told: dict[_Asked, ExactUsage] = {}
        for first in range(0, len(asked), SCOPES_MAX):
            told |= await self._ask(tenant_id, asked[first : first + SCOPES_MAX])
        return told

    async def _ask(self, tenant_id: str, asked: Sequence[_Asked]) -> dict[_Asked, ExactUsage]:
        try:
            quantities = await self._ingest.quantities(tenant_id, [scope for _, scope in asked])
        except NotFound as error:
            by_meter: defaultdict[str, list[_Asked]] = defaultdict(list)
            for item in asked:
                by_meter[item[1].meter_id].append(item)
            if len(by_meter) == 1:
                _logger.warning("ingest does not know meter %s of %s: %s", *by_meter, tenant_id, error)
                return {}
            # One meter that is gone (ingest was restored, say) must not keep the others from being charged.
            told: dict[_Asked, ExactUsage] = {}
            for some in by_meter.values():
                told |= await self._ask(tenant_id, some)
            return told
        except (ServiceError, ValueError) as error:
            _logger.warning("ingest does not tell %d quantities of %s: %s", len(asked), tenant_id, error)
            return {}
        return dict(zip(asked, quantities, strict=True))
