"""Quantities as they were known at an earlier time, of every kind of meter: as if nothing later had come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from libs.database import Database
from libs.periods import Period
from services.ingest.domain.meter import Meter
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope
from tests.component.ingest.builders import NOON, Event, a_batch, add_meters, migrate_ingest
from tests.component.ingest.correcting import Corrector, key
from tests.component.ingest.metering import METERS, MORNING, jobs
from tests.support.servers import DatabaseFactory

HOUR = MORNING.replace(minute=0, second=0, microsecond=0)
WHOLE = Period(HOUR, HOUR + timedelta(hours=11))
UNALIGNED = Period(MORNING - timedelta(hours=7), MORNING + timedelta(hours=7, microseconds=3))
CUSTOMERS = ("cust-0", "cust-1")
FIRST, SECOND = jobs(1, 120), jobs(2, 60)
VOIDED = [FIRST[3], FIRST[40], SECOND[5]]
EARLY = MORNING + timedelta(days=2)
LATE, CORRECTED = EARLY + timedelta(hours=1), EARLY + timedelta(hours=2)
SECOND_BEFORE = timedelta(microseconds=1)

TENANTS: dict[str, list[Event]] = {
    "nothing": [],
    "early": FIRST,
    "late": [*FIRST, *SECOND],
    "corrected": [event for event in [*FIRST, *SECOND] if event not in VOIDED],
}
"""What of it was known when, sent to tenants of their own."""

MOMENTS = {
    "before all": (EARLY - SECOND_BEFORE, "nothing"),
    "at the first batch": (EARLY, "early"),
    "just before the second": (LATE - SECOND_BEFORE, "early"),
    "at the second batch": (LATE, "late"),
    "just before the corrections": (CORRECTED - SECOND_BEFORE, "late"),
    "at the corrections": (CORRECTED, "corrected"),
    "long after": (CORRECTED + timedelta(days=400), "corrected"),
}
moments = pytest.mark.parametrize(("known_at", "equal_to"), MOMENTS.values(), ids=MOMENTS)


@pytest.fixture(scope="module")
async def history(make_database: DatabaseFactory) -> AsyncIterator[Database]:
    """Of the tenant `acme`: two batches at their times, then corrections."""
    urls = await make_database("ingest", migrate_ingest)
    api = Database(urls.api_url, "api", application_name="test-api")
    worker = Database(urls.worker_url, "worker", application_name="test-worker")
    record = RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)
    for seq, (tenant, events) in enumerate(TENANTS.items(), 10):
        await add_meters(api, *METERS, tenant=tenant)
        if events:
            await record([a_batch(1, *events, tenant=tenant, seq=seq)])
    await add_meters(api, *METERS, tenant="acme")
    await record([a_batch(1, *FIRST, received_at=EARLY, seq=1)])
    await record([a_batch(2, *SECOND, received_at=LATE, seq=2)])
    corrector = Corrector(api, worker)
    corrector.now = CORRECTED
    corrector.rules.tenant_now = CORRECTED
    await corrector.void(*(key(event.event_id) for event in VOIDED))
    await worker.dispose()
    yield api
    await api.dispose()


async def _told(api: Database, tenant: str, meter: Meter, period: Period, known_at: datetime | None) -> list[object]:
    ask = GetUsageQuantities(PostgresQuantityStore(api))
    scopes = [QuantityScope(customer, meter.meter_id, period) for customer in CUSTOMERS]
    return [(item.value, item.event_count) for item in await ask(tenant, scopes, known_at)]


@pytest.mark.parametrize("meter", METERS, ids=[meter.meter_id for meter in METERS])
@pytest.mark.parametrize("period", [WHOLE, UNALIGNED], ids=["whole windows", "edges inside windows"])
@moments
async def test_are_those_of_who_sent_no_more(
    history: Database, meter: Meter, period: Period, known_at: datetime, equal_to: str
) -> None:
    assert await _told(history, "acme", meter, period, known_at) == await _told(history, equal_to, meter, period, None)


async def test_say_that_they_answer_for_no_windows(history: Database) -> None:
    ask = GetUsageQuantities(PostgresQuantityStore(history))
    scope = QuantityScope("cust-0", METERS[0].meter_id, WHOLE)

    (then,), (now,) = await ask("acme", [scope], LATE), await ask("acme", [scope])

    assert (then.highest_version, now.highest_version > 0) == (0, True)
