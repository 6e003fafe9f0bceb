"""Every aggregation from the recorder to the answers, against the pure functions over the same events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.database import Database
from libs.errors import InvalidInput
from libs.periods import BucketSize, Period, find_zone
from services.ingest.domain.aggregations import AggregationPeriod, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter, PropertyFilter
from services.ingest.domain.recording import POSITIONS_PER_BATCH
from services.ingest.store.meters import PostgresMeterStore
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.errors import MeterNotFound
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.reconcile import Reconcile
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope, UsageQuantity
from services.ingest.usecases.usage_question import UsageQuestion
from tests.component.ingest.builders import Event, a_batch, add_meters, fetch
from tests.component.ingest.metering import BY_ID, METERS, MORNING, jobs, measured

Recorded = list[tuple[int, Event]]
"""(position, event)."""

MIDNIGHT = MORNING.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = Period(MIDNIGHT, MIDNIGHT + timedelta(days=1))
UNALIGNED = Period(MORNING, MORNING + timedelta(hours=7, microseconds=3))
ids = pytest.mark.parametrize("meter", METERS, ids=[meter.meter_id for meter in METERS])


@pytest.fixture
async def recorded(record: RecordUsage, api: Database) -> Recorded:
    """Events in four batches, some of them twice, recorded one after the other and then all again."""
    await add_meters(api, *METERS)
    batches = [jobs(seed, 90) for seed in range(4)]
    queued = [
        a_batch(number, *events, *events[:5], accepted_total=95 * number)
        for number, events in enumerate(batches, start=1)
    ]
    for batch in queued:
        await record([batch])
    await record(queued)
    rows = await fetch(api, "acme", "SELECT event_id, batch_id, ordinal FROM events")
    places = {event_id: batch_id * POSITIONS_PER_BATCH + ordinal for event_id, batch_id, ordinal in rows}  # type: ignore[operator]
    events = [event for batch in batches for event in batch]
    assert places.keys() == {event.event_id for event in events}
    return [(places[event.event_id], event) for event in events]


def expected(meter: Meter, recorded: Recorded, period: Period, zone: str = "UTC") -> Decimal | None:
    start, end = period.start, period.end
    carried = [item for item in recorded if item[1].at < start]
    within = [item for item in recorded if start <= item[1].at < end]
    time = AggregationPeriod(to_ns(start), to_ns(end), find_zone(zone))
    return evaluate(meter, measured(meter, within), time, carried=measured(meter, carried))


def of_customer(recorded: Recorded, customer_id: str) -> Recorded:
    return [item for item in recorded if item[1].customer_id == customer_id]


class TestQuantities:
    @ids
    @pytest.mark.parametrize("period", [DAY, UNALIGNED], ids=["whole windows", "edges inside windows"])
    async def test_are_what_the_events_come_to(
        self, meter: Meter, period: Period, recorded: Recorded, api: Database
    ) -> None:
        customers = ["cust-0", "cust-1", "nobody"]
        scopes = [QuantityScope(customer, meter.meter_id, period, "Asia/Tokyo") for customer in customers]
        found = await GetUsageQuantities(PostgresQuantityStore(api))("acme", scopes)

        for customer, quantity in zip(customers, found, strict=True):
            mine = of_customer(recorded, customer)
            assert quantity.value == expected(meter, mine, period, "Asia/Tokyo")
            assert quantity.event_count == sum(period.start <= event.at < period.end for _, event in mine)
            assert (quantity.highest_version > 0) == (customer != "nobody")

    @ids
    async def test_a_change_has_a_higher_version(
        self, meter: Meter, recorded: Recorded, api: Database, record: RecordUsage
    ) -> None:
        ask = GetUsageQuantities(PostgresQuantityStore(api))
        scope = QuantityScope("cust-0", meter.meter_id, DAY)
        before = await ask("acme", [scope])
        await record([a_batch(9, *(replace_id(event, number) for number, (_, event) in enumerate(recorded[:80])))])

        assert (await ask("acme", [scope]))[0].highest_version > before[0].highest_version

    @pytest.mark.parametrize(("meter_id", "is_seen"), [("seats", True), ("level", True), ("sum", False)])
    async def test_what_is_carried_over_is_part_of_the_version(
        self, meter_id: str, is_seen: bool, recorded: Recorded, api: Database, record: RecordUsage
    ) -> None:
        ask = GetUsageQuantities(PostgresQuantityStore(api))
        later = Period(DAY.start + timedelta(days=20), DAY.start + timedelta(days=21))
        scope = QuantityScope("cust-0", meter_id, later)
        before: list[UsageQuantity] = await ask("acme", [scope])
        (_, event), *_ = of_customer(recorded, "cust-0")
        await record([a_batch(9, event._replace(event_id="late", properties={**event.properties, "change": "add"}))])
        after = await ask("acme", [scope])

        assert (after[0].highest_version > before[0].highest_version) is is_seen
        assert after[0].event_count == 0

    async def test_scopes_of_several_meters_are_answered_in_their_order(
        self, recorded: Recorded, api: Database
    ) -> None:
        asked = [(meter_id, customer) for customer in ("cust-1", "cust-0") for meter_id in ("max", "users", "min")]
        scopes = [QuantityScope(customer, meter_id, DAY) for meter_id, customer in asked]
        found = await GetUsageQuantities(PostgresQuantityStore(api))("acme", scopes)

        assert [quantity.value for quantity in found] == [
            expected(BY_ID[meter_id], of_customer(recorded, customer), DAY) for meter_id, customer in asked
        ]

    async def test_of_an_unknown_meter_there_are_none(self, recorded: Recorded, api: Database) -> None:
        with pytest.raises(MeterNotFound):
            await GetUsageQuantities(PostgresQuantityStore(api))("acme", [QuantityScope("cust-0", "other", DAY)])

    async def test_of_another_tenant_are_not_seen(self, recorded: Recorded, api: Database) -> None:
        await add_meters(api, BY_ID["max"], BY_ID["users"], tenant="bolt")
        scopes = [QuantityScope("cust-0", meter_id, DAY) for meter_id in ("max", "users")]
        found = await GetUsageQuantities(PostgresQuantityStore(api))("bolt", scopes)
        assert found == [UsageQuantity(Decimal(0), 0, 0)] * 2


def replace_id(event: Event, number: int) -> Event:
    return event._replace(event_id=f"again-{number}")


class TestQueries:
    @ids
    @pytest.mark.parametrize("size", [None, BucketSize.QUARTER_HOUR, BucketSize.HOUR, BucketSize.DAY])
    async def test_rows_are_what_their_events_come_to(
        self, meter: Meter, size: BucketSize | None, recorded: Recorded, api: Database
    ) -> None:
        asked = question(meter, size=size, by_customer=True)
        times, rows = await QueryUsage(usage=PostgresUsageStore(api))(asked, None, 10_000)

        wanted = []
        for index, time in enumerate(times):
            for customer in ("cust-0", "cust-1"):
                mine = of_customer(recorded, customer)
                within = sum(time.start <= event.at < time.end for _, event in mine)
                carried = meter.carry_over and any(event.at < time.start for _, event in mine)
                if within or carried:
                    wanted.append((index, customer, expected(meter, mine, time, asked.time_zone), within))
        assert [(row.index, row.customer_id, row.value, row.event_count) for row in rows] == wanted

    @pytest.mark.parametrize("meter_id", ["latest-of-region", "users-of-region"])
    async def test_by_group_and_of_one_group(self, meter_id: str, recorded: Recorded, api: Database) -> None:
        if meter_id == "users-of-region":  # Created late: it counts nothing that was recorded before.
            await add_meters(api, replace(BY_ID["users"], meter_id=meter_id, group_by=("region",)))
        meter = BY_ID["latest-of-region"]
        query = QueryUsage(usage=PostgresUsageStore(api))
        _, rows = await query(replace(question(meter), meter_id=meter_id, group_by=("region",)), None, 100)
        found = {row.dimensions.get("region"): row.value for row in rows}

        if meter_id == "users-of-region":
            assert found == {}
            return
        assert found == {
            region: expected(
                meter, [item for item in recorded if item[1].properties.get("region") == region], UNALIGNED
            )
            for region in ("eu", "us", None)
        }
        _, rows = await query(replace(question(meter), filters=(PropertyFilter("region", "eu"),)), None, 100)
        assert [row.value for row in rows] == [found["eu"]]

    async def test_of_too_many_events_are_refused_before_they_fill_the_memory(
        self, recorded: Recorded, api: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        query = QueryUsage(usage=PostgresUsageStore(api))
        asked = replace(question(BY_ID["prorated"]), start=DAY.start)
        count = sum(asked.start <= event.at < asked.end for _, event in recorded)
        monkeypatch.setattr("services.ingest.usecases.query_usage.MAX_EVENTS", count)
        await query(asked, None, 10)
        monkeypatch.setattr("services.ingest.usecases.query_usage.MAX_EVENTS", count - 1)
        with pytest.raises(InvalidInput, match="ask for a shorter time or one customer"):
            await query(asked, None, 10)

    async def test_of_too_many_buckets_are_refused_before_they_fill_the_memory(
        self, recorded: Recorded, api: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        query = QueryUsage(usage=PostgresUsageStore(api))
        asked = question(BY_ID["peaks"])
        times = [event.at for _, event in recorded if asked.start <= event.at < asked.end]
        hours = {at.replace(minute=0, second=0, microsecond=0) for at in times}
        monkeypatch.setattr("services.ingest.usecases.query_usage.MAX_PARTS", len(hours))
        await query(asked, None, 10)
        monkeypatch.setattr("services.ingest.usecases.query_usage.MAX_PARTS", len(hours) - 1)
        with pytest.raises(InvalidInput, match="buckets or rows"):
            await query(asked, None, 10)

    @pytest.mark.parametrize("meter_id", ["max", "level", "users"])
    async def test_pages_are_parts_of_the_whole(self, meter_id: str, recorded: Recorded, api: Database) -> None:
        query = QueryUsage(usage=PostgresUsageStore(api))
        asked = question(BY_ID[meter_id], size=BucketSize.HOUR, by_customer=True)
        _, whole = await query(asked, None, 10_000)
        paged, after = [], None
        while True:
            _, page = await query(asked, after, 3)
            if not page:
                break
            paged += page
            after = page[-1].place

        assert len(whole) > 3
        assert paged == whole


def question(meter: Meter, *, size: BucketSize | None = None, by_customer: bool = False) -> UsageQuestion:
    return UsageQuestion(
        "acme", meter.meter_id, "", UNALIGNED.start, UNALIGNED.end, size, "Europe/Berlin", (), by_customer, ()
    )


class TestWindows:
    async def test_all_kinds_are_reconciled_with_the_log(self, recorded: Recorded, api: Database) -> None:
        checks = await Reconcile(PostgresReconciliationStore(api))("acme", None)
        assert [check for check in checks if not check.holds] == []
        assert next(check for check in checks if check.name == "events of windows = log").left == len(METERS) * 360

    @pytest.mark.parametrize("meter_id", ["min", "max", "latest", "avg", "users", "p90"])
    async def test_one_that_was_changed_behind_our_back_is_found(
        self, meter_id: str, recorded: Recorded, api: Database, worker: Database
    ) -> None:
        await change_one(worker, meter_id)
        checks = await Reconcile(PostgresReconciliationStore(api))("acme", None)
        (check,) = [check for check in checks if check.differences]
        assert f"meter {meter_id}," in check.differences[0].subject


async def change_one(worker: Database, meter_id: str) -> None:
    async with worker.transaction("acme") as connection:
        await connection.exec_driver_sql(
            "UPDATE usage_windows SET value = value + 1 WHERE window_key ="
            f" (SELECT window_key FROM usage_windows WHERE meter_id = '{meter_id}' LIMIT 1)"
        )


@ids
async def test_a_meter_is_read_as_it_was_written(meter: Meter, api: Database) -> None:
    await add_meters(api, meter)
    assert await PostgresMeterStore(api).get("acme", meter.meter_id) == meter
