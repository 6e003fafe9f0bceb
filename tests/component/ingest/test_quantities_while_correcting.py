"""A correction that comes between the parts of a question: what it moves is in one of them, never in both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from decimal import Decimal

import asyncpg

from libs.database import Database
from libs.periods import Period
from services.ingest.domain.meter import Meter
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope
from tests.component.ingest.builders import NOON, Event, a_batch, add_meters
from tests.component.ingest.correcting import Corrector, key, outcomes
from tests.component.ingest.metering import BY_ID

HOUR = timedelta(hours=1)


class InterruptedStore(PostgresQuantityStore):
    """Has something done when it has read what was before the scopes."""

    def __init__(self, database: Database, between: Callable[[], Awaitable[None]]) -> None:
        super().__init__(database)
        self._between = between

    async def _levels(
        self, driver: asyncpg.Connection, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]
    ) -> list[Decimal]:
        found = await super()._levels(driver, tenant_id, meter, scopes)
        await self._between()
        return found


async def test_a_level_is_not_counted_before_the_period_and_in_it(
    record: RecordUsage, api: Database, worker: Database
) -> None:
    await add_meters(api, BY_ID["level"])
    before = Event("1", {"size": "10"}, at=NOON - 2 * HOUR, event_type="job")
    await record([a_batch(1, before)])
    corrector = Corrector(api, worker)
    corrector.rules.tenant_now = NOON + timedelta(days=1)

    async def move() -> None:
        moved = before._replace(event_id="1b", at=NOON + HOUR)
        assert outcomes(await corrector.replace((key("1"), moved))) == ["applied"]

    ask = GetUsageQuantities(InterruptedStore(api, move))
    scope = QuantityScope("cust-01", "level", Period(NOON, NOON + 2 * HOUR))

    [found] = await ask("acme", [scope])
    [later] = await GetUsageQuantities(PostgresQuantityStore(api))("acme", [scope])

    # The level of 10 for two hours, as it was, or for the second one.
    assert (found.value, later.value) == (Decimal(20), Decimal(10))
    assert found.highest_version < later.highest_version
