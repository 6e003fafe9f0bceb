"""Groups with the same quantity."""

from __future__ import annotations

from libs.database import Database
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import Event, a_batch, add_meters
from tests.component.ingest.random_usage import meter_of, question


async def test_are_ranked_by_their_names(record: RecordUsage, api: Database) -> None:
    meter = meter_of("again", Aggregation.COUNT, "")
    await add_meters(api, meter)
    asked = question(meter, top_groups=3)
    await record([a_batch(1, *(Event(name, {}, name, asked.start, "job") for name in ("b", "a", "c", "B")))])

    _, rows = await QueryUsage(usage=PostgresUsageStore(api))(asked, None, 10)

    assert [(row.customer_id, row.rank) for row in rows] == [("B", 1), ("a", 2), ("b", 3)]
