"""One call says what became of an event: its marks, what meters measured, and why others did not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.database import Database
from libs.periods import Period
from services.ingest.domain.event_trace import EventTrace, Unmatched, UnmatchedMeter, trace_event
from services.ingest.domain.filters import FilterOperator, PropertyFilter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, add_meters, fetch
from tests.component.ingest.correcting import Corrector, key

BIG = PropertyFilter("tokens", "100", FilterOperator.GREATER_THAN)
METERS = (
    a_meter(meter_id="by-model", expression="tokens", group_by=("model", "region")),
    replace(a_meter(meter_id="models", expression="model"), aggregation=Aggregation.UNIQUE_COUNT),
    replace(a_meter(meter_id="big"), filters=(BIG,)),
    replace(a_meter(meter_id="not-small"), exclude=((PropertyFilter("model", "small"),),)),
    a_meter(meter_id="other", event_type="other"),
)
AT = NOON + timedelta(minutes=17, microseconds=1)
EVENT = Event("1", {"tokens": "7.5", "model": "small"}, "cust-1", AT)


@pytest.fixture
async def store(api: Database, record: RecordUsage) -> PostgresEventStore:
    """With one recorded event."""
    await add_meters(api, *METERS)
    await record([a_batch(1, EVENT)])
    return PostgresEventStore(api)


async def trace_of(store: PostgresEventStore, event_id: str = "1") -> EventTrace:
    return (await store.traces("acme", [key(event_id)]))[key(event_id)]


async def test_what_was_measured_and_the_windows_that_have_it(store: PostgresEventStore, api: Database) -> None:
    trace = await trace_of(store)

    found = {item.meter.meter_id: item for item in trace.matched}
    assert {name: item.value for name, item in found.items()} == {"by-model": "7.5", "models": "+small"}
    quarter = Period(NOON + timedelta(minutes=15), NOON + timedelta(minutes=30))
    assert {item.window for item in found.values()} == {quarter}
    assert (found["by-model"].dimensions, found["models"].dimensions) == ({"model": "small"}, {})
    windows = await fetch(
        api, "acme", "SELECT meter_id, window_start, dimensions, value FROM usage_windows WHERE meter_id = 'by-model'"
    )
    assert windows == [("by-model", quarter.start, {"model": "small"}, Decimal("7.5"))]


async def test_why_other_meters_of_its_type_did_not(store: PostgresEventStore) -> None:
    trace = await trace_of(store)
    assert trace.unmatched == [
        UnmatchedMeter("big", Unmatched.FILTERED, "tokens"),
        UnmatchedMeter("not-small", Unmatched.EXCLUDED),
    ]

    received = trace.event.received_at
    others = [
        replace(a_meter(meter_id="archived"), archived_at=received),
        replace(a_meter(meter_id="archived later"), archived_at=received + timedelta(seconds=1)),
        replace(a_meter(meter_id="later"), created_at=received + timedelta(seconds=1)),
    ]
    assert trace_event(trace.event, others).unmatched == [
        UnmatchedMeter("archived", Unmatched.ARCHIVED),
        UnmatchedMeter("archived later", Unmatched.UNMEASURED),
        UnmatchedMeter("later", Unmatched.CREATED_LATER),
    ]


async def test_marks_are_on_it(store: PostgresEventStore, api: Database, worker: Database) -> None:
    await Corrector(api, worker).void(key("1"))

    trace = await trace_of(store)

    assert trace.event.correction is not None
    assert trace.event.unassigned
    assert [item.meter.meter_id for item in trace.matched] == ["by-model", "models"]


async def test_many_at_once_and_unknown_ones_are_left_out(store: PostgresEventStore, record: RecordUsage) -> None:
    await record([a_batch(2, *(replace_id(EVENT, str(number)) for number in range(2, 30)))])

    found = await store.traces("acme", [key(str(number)) for number in range(40)])

    assert set(found) == {key(str(number)) for number in range(1, 30)}
    assert await store.traces("other", [key("1")]) == {}


def replace_id(event: Event, event_id: str) -> Event:
    return event._replace(event_id=event_id)
