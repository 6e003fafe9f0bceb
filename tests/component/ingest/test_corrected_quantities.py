"""Every question about a quantity, of every kind of meter, is answered as if only what counts had been sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from libs.database import Database
from libs.periods import Period
from services.ingest.domain.meter import Meter
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope
from services.ingest.usecases.usage_question import UsageQuestion
from tests.component.ingest.builders import NOON, Event, a_batch, add_meters, migrate_ingest
from tests.component.ingest.correcting import Corrector, key
from tests.component.ingest.metering import METERS, MORNING, jobs
from tests.support.servers import DatabaseFactory

HOUR = MORNING.replace(minute=0, second=0, microsecond=0)
WHOLE = Period(HOUR, HOUR + timedelta(hours=11))
UNALIGNED = Period(MORNING - timedelta(hours=7), MORNING + timedelta(hours=7, microseconds=3))
CUSTOMERS = ("cust-0", "cust-1")
ids = pytest.mark.parametrize("meter", METERS, ids=[meter.meter_id for meter in METERS])


def _at_edges(event_id: str, size: str) -> list[Event]:
    """Events of each customer in the windows in which UNALIGNED begins and ends."""
    properties = {"size": size, "user": event_id, "change": "add"}
    return [
        Event(f"{event_id}-{customer}-{number}", properties, customer, at, event_type="job")
        for customer in CUSTOMERS
        for number, at in enumerate((UNALIGNED.start, UNALIGNED.end - timedelta(microseconds=1)))
    ]


async def _corrected(record: RecordUsage, api: Database, worker: Database) -> Corrector:
    """Of the tenant `acme`, which has corrected what `clean` never sent."""
    for tenant in ("acme", "clean"):
        await add_meters(api, *METERS, tenant=tenant)
    corrector = Corrector(api, worker)
    corrector.rules.tenant_now = MORNING + timedelta(days=2)
    good, wrong, replaced = jobs(1, 150), [*jobs(2, 90), *_at_edges("wrong", "999")], jobs(3, 90)
    good += _at_edges("good", "1")
    better = [
        event._replace(event_id=f"{event.event_id}-b", properties={**event.properties, "size": "7.5"})
        for event in replaced
    ]
    await record([a_batch(1, *wrong[:45], *good, *wrong[45:], *replaced)])
    await corrector.void(*(key(event.event_id) for event in wrong))
    await corrector.replace(*((key(old.event_id), new) for old, new in zip(replaced, better, strict=True)))
    await record([a_batch(1, *good, *better, tenant="clean", seq=2)])
    return corrector


@pytest.fixture
async def corrector(record: RecordUsage, api: Database, worker: Database) -> Corrector:
    return await _corrected(record, api, worker)


@pytest.fixture(scope="module")
async def corrected(make_database: DatabaseFactory) -> AsyncIterator[Database]:
    """Logged in as api, for tests that only ask."""
    urls = await make_database("ingest", migrate_ingest)
    api = Database(urls.api_url, "api", application_name="test-api")
    worker = Database(urls.worker_url, "worker", application_name="test-worker")
    await _corrected(RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON), api, worker)
    await worker.dispose()
    yield api
    await api.dispose()


@ids
class TestQuantities:
    @pytest.mark.parametrize("period", [WHOLE, UNALIGNED], ids=["whole windows", "edges inside windows"])
    async def test_that_rating_asks_for(self, corrected: Database, meter: Meter, period: Period) -> None:
        ask = GetUsageQuantities(PostgresQuantityStore(corrected))
        scopes = [QuantityScope(customer, meter.meter_id, period) for customer in CUSTOMERS]

        found, expected = await ask("acme", scopes), await ask("clean", scopes)

        answers = [[(item.value, item.event_count) for item in items] for items in (found, expected)]
        assert answers[0] == answers[1]
        assert all(item.event_count for item in expected)

    @pytest.mark.parametrize("period", [WHOLE, UNALIGNED], ids=["whole windows", "edges inside windows"])
    async def test_that_users_ask_for(self, corrected: Database, meter: Meter, period: Period) -> None:
        query = QueryUsage(usage=PostgresUsageStore(corrected))
        answers = []
        for tenant in ("acme", "clean"):
            question = UsageQuestion(
                tenant_id=tenant,
                meter_id=meter.meter_id,
                customer_id="",
                start=period.start,
                end=period.end,
                size=None,
                time_zone="",
                group_by=meter.group_by,
                by_customer=True,
                filters=(),
            )
            _, rows = await query(question, None, 100)
            answers.append([(row.customer_id, row.dimensions_text, row.value, row.event_count) for row in rows])

        assert answers[0] == answers[1]
        assert answers[1]

    async def test_change_with_a_higher_version(self, corrector: Corrector, api: Database, meter: Meter) -> None:
        ask = GetUsageQuantities(PostgresQuantityStore(api))
        scopes = [QuantityScope(customer, meter.meter_id, UNALIGNED) for customer in CUSTOMERS]
        before = await ask("acme", scopes)

        await corrector.void(*(key(event.event_id) for event in jobs(1, 150)[:60]))

        for old, new in zip(before, await ask("acme", scopes), strict=True):
            assert new.highest_version > old.highest_version
            assert new.event_count < old.event_count
