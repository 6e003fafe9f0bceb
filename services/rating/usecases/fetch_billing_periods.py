"""Get billing periods from billing, because streams are not history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from libs.errors import ServiceError
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.commitment_term import CountedPeriod
from services.rating.usecases.accept_billing_periods import AcceptBillingPeriods
from services.rating.usecases.ports import BillingPeriods

_AT_ONCE = 8
_EVER = datetime(1970, 1, 2, tzinfo=UTC)
"""Before all billing periods."""

_logger = logging.getLogger(__name__)


class FetchBillingPeriods:
    """Asks billing for the periods of subscriptions and accepts them as if its stream had brought them."""

    def __init__(self, billing: BillingPeriods, accept_billing_periods: AcceptBillingPeriods) -> None:
        self._billing = billing
        self._accept_billing_periods = accept_billing_periods

    async def __call__(self, tenant_id: str, instants: Sequence[tuple[str, datetime]]) -> None:
        """Accept, for each (subscription, instant), the period that contains the instant, and those behind it.

        What billing does not know, or cannot say now, stays unknown.

        :raises ServiceError: if ingest does not answer
        """
        earliest: dict[str, datetime] = {}
        for subscription_id, at in instants:
            earliest[subscription_id] = min(at, earliest.get(subscription_id, at))
        told = await self._ask(tenant_id, earliest)
        await self._accept_billing_periods([period for periods in told.values() for period in periods])

    async def complete(
        self, tenant_id: str, known: Mapping[str, Collection[CountedPeriod]]
    ) -> tuple[list[BillingPeriod], set[str]]:
        """Accept all periods of subscriptions that are not among the known ones, or are otherwise.

        Return them, and the subscriptions for which billing does not answer.

        :raises ServiceError: if ingest does not answer
        """
        told = await self._ask(tenant_id, dict.fromkeys(known, _EVER))
        new = [
            period
            for subscription_id, periods in told.items()
            for period in periods
            if period.counted not in known[subscription_id]
        ]
        await self._accept_billing_periods(new)
        return new, set(known) - told.keys()

    async def _ask(self, tenant_id: str, since: Mapping[str, datetime]) -> dict[str, list[BillingPeriod]]:
        """Return the periods of subscriptions that end after those instants, as far as billing answers."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def ask(subscription_id: str, at: datetime) -> list[BillingPeriod]:
            async with at_once:
                return await self._billing.ending_after(tenant_id, subscription_id, at)

        answers = await asyncio.gather(*(ask(*item) for item in since.items()), return_exceptions=True)
        told: dict[str, list[BillingPeriod]] = {}
        for subscription_id, answer in zip(since, answers, strict=True):
            if isinstance(answer, ServiceError):
                _logger.warning("billing does not tell the periods of %s of %s: %r", subscription_id, tenant_id, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                told[subscription_id] = answer
        return told
