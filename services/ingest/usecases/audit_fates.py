"""A standing job: see whether counts, results of batches, the log and usage windows agree."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Protocol

from libs.clock import Clock
from libs.database import is_outage, retry_transient
from services.ingest.domain.log_chain import hour_of
from services.ingest.usecases.standing_work import repeat

_logger = logging.getLogger(__name__)

_EVERY_S = 60.0


class Equation(StrEnum):
    """What is compared, left side first."""

    COUNTS = "counts of an hour = results of its batches"
    BATCH = "events of a batch = their fates"
    LOG = "recorded events of a batch = its rows of the log"
    WINDOWS = "usage windows of an hour = the log"


@dataclass(frozen=True, slots=True)
class FateDifference:
    """Two sides that differ, or did. `hour` is that of receipt, with windows that of the events; `resolved_at` is when
    they were found to agree again."""

    equation: Equation
    hour: datetime
    subject: str
    left: str
    right: str
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None


class FateAudit(Protocol):
    async def watermark(self) -> datetime | None:
        """Everything acknowledged before it is recorded; None while that is unknown."""

    async def tenants(self, checked_before: datetime) -> Sequence[str]:
        """All tenants with usage that were not looked at since."""

    async def check(self, tenant_id: str, before: datetime, now: datetime) -> Sequence[FateDifference]:
        """Check some hours of a tenant in one transaction: of receipt those not checked yet that end by an instant
        and those that differed; of windows the next sealed one. Keep and return what differs anew."""

    async def open_differences(self) -> int:
        """Of all tenants."""


class AuditFates:
    """Looks at every tenant once a minute. Each equation holds in every transaction, so nothing that is under way can
    look like a difference; several processes may work at once."""

    def __init__(self, audit: FateAudit, clock: Clock, on_checked: Callable[[int], None]) -> None:
        """`on_checked` is told after each round how many differences of all tenants are open."""
        self._audit = audit
        self._clock = clock
        self._on_checked = on_checked

    async def run(self, stopping: asyncio.Event) -> None:
        """Check until `stopping` is set."""

        async def work() -> float:
            await self()
            return _EVERY_S

        await repeat("fates", work, stopping)

    async def __call__(self) -> None:
        """Check what there is now."""
        watermark = await self._audit.watermark()
        if watermark is None:
            return
        now = self._clock()
        for tenant_id in await self._audit.tenants(now):
            await self._check(tenant_id, hour_of(watermark), now)
        self._on_checked(await self._audit.open_differences())

    async def _check(self, tenant_id: str, before: datetime, now: datetime) -> None:
        """What fails for one tenant does not keep the others from being checked."""
        try:
            found = await retry_transient(partial(self._audit.check, tenant_id, before, now))
        except Exception as error:
            if is_outage(error):
                raise
            _logger.exception("the fates of %s are not checked", tenant_id)
            return
        for item in found:
            sides = (item.equation, item.hour.isoformat(), item.subject, item.left, item.right)
            _logger.error("%s: %s, %s, %s: %s and %s", tenant_id, *sides)
