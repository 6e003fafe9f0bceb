"""Random events of many customers, meters that the database evaluates by itself, and what is expected of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from libs.database import Database
from libs.money import RoundingFunction
from libs.periods import Period
from services.ingest.domain.aggregations import AggregationPeriod, EventColumns, Operation, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import (
    Aggregation,
    BucketLength,
    Buckets,
    EmptyBuckets,
    EmptyResult,
    Rounding,
)
from services.ingest.domain.recording import POSITIONS_PER_BATCH
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_question import UsageQuestion
from tests.component.ingest.builders import NOON, Event, a_batch, add_meters, fetch, migrate_ingest
from tests.support.servers import DatabaseFactory

FIRST = datetime(2026, 3, 28, 22, 7, 30, 5, tzinfo=UTC)
ASKED = Period(FIRST + timedelta(hours=2, minutes=1), FIRST + timedelta(hours=9, minutes=3, microseconds=9))
WHOLE = Period(
    FIRST.replace(minute=0, second=0, microsecond=0), FIRST.replace(hour=23, minute=45, second=0, microsecond=0)
)
CUSTOMERS = 30
Recorded = list[tuple[int, Event]]


def meter_of(meter_id: str, aggregation: Aggregation, expression: str = "size", **options: object) -> Meter:
    return Meter(meter_id, "", "job", aggregation, expression, created_at=NOON, **options)  # type: ignore[arg-type]


def _buckets(length: BucketLength, inner: Aggregation, zone: str = "Australia/Lord_Howe", **options: object) -> Buckets:
    return Buckets(length, inner, zone, **options)  # type: ignore[arg-type]


A, L = Aggregation, BucketLength
NULL, SKIP = EmptyResult.NULL, EmptyBuckets.SKIP
PERCENTAGES = ("95", "50", "100", "0.000000000001", "33.333333333333", "14.285714285714")
PERCENTILES = tuple(
    meter_of(f"p{place}", A.PERCENTILE, percentile=Decimal(percent), empty=NULL, group_by=("region",))
    for place, percent in enumerate(PERCENTAGES)
)
METERS = (
    *PERCENTILES,
    meter_of("users", A.UNIQUE_COUNT, "user", group_by=("region",)),
    meter_of("ever", A.UNIQUE_COUNT, "user", carry_over=True),
    meter_of("changed", A.UNIQUE_COUNT, "user", operation_property="change"),
    meter_of("seats", A.UNIQUE_COUNT, "user", operation_property="change", carry_over=True, group_by=("region",)),
    meter_of("all-time", A.SUM, carry_over=True),
    meter_of("all-time-count", A.COUNT, "", carry_over=True),
    meter_of("all-time-avg", A.AVG, carry_over=True, empty=NULL),
    meter_of("all-time-max", A.MAX, carry_over=True, empty=NULL),
    meter_of("still", A.LATEST, carry_over=True, empty=NULL, group_by=("region",)),
    meter_of("minutes", A.MAX, buckets=_buckets(L.MINUTE, A.SUM)),
    meter_of("busiest", A.PERCENTILE, percentile=Decimal(95), buckets=_buckets(L.FIVE_MINUTES, A.AVG)),
    meter_of("quarters", A.AVG, buckets=_buckets(L.QUARTER_HOUR, A.MIN, empty=SKIP), group_by=("region",)),
    meter_of("hours", A.SUM, buckets=_buckets(L.HOUR, A.LATEST), rounding=Rounding(RoundingFunction.CEIL, 1)),
    meter_of("days", A.MIN, buckets=_buckets(L.DAY, A.COUNT), expression=""),
    meter_of("active", A.AVG, "user", buckets=_buckets(L.HOUR, A.UNIQUE_COUNT), group_by=("region",)),
    meter_of("present", A.MAX, "user", buckets=_buckets(L.DAY, A.UNIQUE_COUNT, "UTC"), operation_property="change"),
)
BY_ID = {meter.meter_id: meter for meter in METERS}


def _events(dice: random.Random, customer: int) -> Iterable[Event]:
    """None, few or many; with ties of values and times, negative ones, many decimals."""
    instants = [FIRST + timedelta(minutes=dice.randrange(700), microseconds=dice.randrange(3)) for _ in range(20)]
    sizes = [f"{dice.randrange(-9, 9)}", f"-0.{dice.randrange(10**12):012}", f"{dice.randrange(10**15)}.5", "0", "2.50"]
    for number in range(dice.choice([0, 1, 2, 7, 20, 60])):
        properties = {
            "size": dice.choice([*sizes, f"{dice.randrange(-500, 500)}.{dice.randrange(100)}"]),
            "user": dice.choice(["+a", "-a", "a", "ä", "\U0001f600", f"u{dice.randrange(9)}"]),
            "change": dice.choice(["add", "add", "remove"]),
        }
        if dice.random() < 0.8:
            properties["region"] = dice.choice(["eu", "us", 'a "quoted" one'])
        yield Event(f"{customer}-{number}", properties, f"cust-{customer:02}", dice.choice(instants), event_type="job")


async def record_random_usage(record: RecordUsage, api: Database, meters: Sequence[Meter]) -> Recorded:
    """Record events that are always the same, in several batches; return them with their positions."""
    dice = random.Random(29)
    await add_meters(api, *meters)
    events = [event for customer in range(CUSTOMERS) for event in _events(dice, customer)]
    dice.shuffle(events)
    for number, first in enumerate(range(0, len(events), 100), start=1):
        await record([a_batch(number, *events[first : first + 100], accepted_total=min(first + 100, len(events)))])
    rows = await fetch(api, "acme", "SELECT event_id, batch_id, ordinal FROM events")
    places = {event_id: batch_id * POSITIONS_PER_BATCH + ordinal for event_id, batch_id, ordinal in rows}  # type: ignore[operator]
    assert len(places) == len(events) > 300
    return [(places[event.event_id], event) for event in events]


@asynccontextmanager
async def random_usage(
    make_database: DatabaseFactory, meters: Sequence[Meter]
) -> AsyncIterator[tuple[Database, Recorded]]:
    """A database of its own with `record_random_usage`, logged in as api: for tests of a module that only read."""
    urls = await make_database("ingest", migrate_ingest)
    api = Database(urls.api_url, "api", application_name="test-api")
    worker = Database(urls.worker_url, "worker", application_name="test-worker")
    try:
        record = RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)
        yield api, await record_random_usage(record, api, meters)
    finally:
        await api.dispose()
        await worker.dispose()


def columns(meter: Meter, items: Recorded) -> EventColumns:
    times, positions = [to_ns(event.at) for _, event in items], [position for position, _ in items]
    if meter.event_aggregation is A.UNIQUE_COUNT:
        changes = [Operation(event.properties["change"]) for _, event in items] if meter.operation_property else ()
        return EventColumns(
            times, positions, texts=[event.properties["user"] for _, event in items], operations=changes
        )
    ones = meter.event_aggregation is A.COUNT
    sizes = [Decimal(1) if ones else Decimal(event.properties["size"]) for _, event in items]
    return EventColumns(times, positions, values=sizes)


def expected(meter: Meter, items: Recorded, time: Period) -> Decimal | None:
    within = [item for item in items if time.contains(item[1].at)]
    before = [item for item in items if item[1].at < time.start]
    period = AggregationPeriod(to_ns(time.start), to_ns(time.end))
    return evaluate(meter, columns(meter, within), period, carried=columns(meter, before))


def question(meter: Meter, **options: object) -> UsageQuestion:
    asked = UsageQuestion("acme", meter.meter_id, "", ASKED.start, ASKED.end, None, "", (), True, ())
    return replace(asked, **options)  # type: ignore[arg-type]
