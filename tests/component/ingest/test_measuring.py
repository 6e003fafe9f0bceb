"""MeasureEvents as it runs: what it says of an event is what becomes of it when it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from libs.periods import window_start
from libs.rpc import service_error_from
from steelyard.ingest.v1 import ingest_service_pb2 as ingest_pb
from steelyard.ingest.v1 import measuring_service_pb2 as pb
from steelyard.ingest.v1 import meter_pb2, usage_event_pb2, usage_service_pb2
from steelyard.ingest.v1.measuring_service_pb2_grpc import MeasuringServiceStub
from tests.component.ingest.running import RunningIngest, Tenant, an_event, running_ingest, until

METERS = (
    meter_pb2.Meter(
        meter_id="tokens",
        event_type="llm.request",
        aggregation=meter_pb2.AGGREGATION_SUM,
        expression="input * 2",
        group_by=["region", "model"],
        unit="By",
    ),
    meter_pb2.Meter(meter_id="calls", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_COUNT),
    meter_pb2.Meter(
        meter_id="largest", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_MAX, expression="input"
    ),
    meter_pb2.Meter(meter_id="other", event_type="other", aggregation=meter_pb2.AGGREGATION_COUNT),
)


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "measuring") as running:
        yield running


async def metered(ingest: RunningIngest, tenant_id: str) -> Tenant:
    """A tenant whose acceptors and measurers know its meters."""
    tenant = await ingest.tenant(tenant_id)
    for meter in METERS:
        await tenant.create_meter(meter)

    async def known() -> bool:
        return len((await measured(tenant, an_event("probe", input="1"))).measurements) == 3

    await until(known)
    return tenant


async def answer(tenant: Tenant, *events: usage_event_pb2.UsageEvent) -> list[pb.EventMeasurement]:
    stub = MeasuringServiceStub(tenant.ingest.channels["query"])
    request = pb.MeasureEventsRequest(events=events)
    return list((await stub.MeasureEvents(request, metadata=tenant.key, timeout=20)).results)


async def measured(tenant: Tenant, event: usage_event_pb2.UsageEvent) -> pb.EventMeasurement:
    [found] = await answer(tenant, event)
    return found


async def test_what_is_measured_is_what_is_recorded_when_it_is_sent(ingest: RunningIngest) -> None:
    tenant = await metered(ingest, "measured")
    event = an_event("1", input="7.50", region="eu")
    found = await measured(tenant, event)

    values = {
        item.meter_id: (item.value, item.unit, dict(item.dimensions), item.additive) for item in found.measurements
    }
    assert values == {
        "calls": ("1", "", {}, True),
        "largest": ("7.5", "", {}, False),
        "tokens": ("15", "By", {"region": "eu"}, True),
    }
    at = event.event_time.ToDatetime(tzinfo=UTC)
    assert found.window_start_time.ToDatetime(tzinfo=UTC) == window_start(at)
    assert (await tenant.counts()).sent == 0

    sent = await tenant.send(event)
    assert list(sent.verdicts) == [ingest_pb.EVENT_VERDICT_RECORDED]
    request = usage_service_pb2.GetEventRequest(source="gateway", event_id="1")
    recorded = (await tenant.usage.GetEvent(request, metadata=tenant.key, timeout=20)).event
    assert dict(recorded.measured_values) == {item.meter_id: item.value for item in found.measurements}


async def test_what_would_be_rejected_says_why_and_leaves_the_others_alone(ingest: RunningIngest) -> None:
    tenant = await metered(ingest, "rejected")
    old = an_event("old", input="1")
    old.event_time.FromDatetime(datetime.now(UTC) - timedelta(days=40))
    events = [an_event("good", input="1"), an_event("no-number", input="x"), old, an_event("missing"), an_event("")]
    unknown = an_event("unknown")
    unknown.event_type = "nothing"

    found = await answer(tenant, *events, unknown)

    problems = [
        (item.problem.index, item.problem.field, item.problem.reason) for item in found if item.HasField("problem")
    ]
    assert problems == [
        (1, "properties.input", "NOT_A_NUMBER"),
        (2, "event_time", "TOO_OLD"),
        (3, "properties.input", "MISSING_PROPERTY"),
        (4, "event_id", "REQUIRED"),
    ]
    assert [len(item.measurements) for item in found] == [3, 0, 0, 0, 0, 0]
    assert [item.HasField("window_start_time") for item in found] == [True, False, False, False, False, True]
    sent = await tenant.send(*events)
    assert [(item.index, item.field, item.reason) for item in sent.problems] == problems


@pytest.mark.parametrize("count", [0, 101])
async def test_there_are_1_to_100_events(ingest: RunningIngest, count: int) -> None:
    tenant = await ingest.tenant(f"count-{count}")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await answer(tenant, *[an_event(str(number)) for number in range(count)])

    error = service_error_from(refused.value)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error is not None
    assert "events" in error.message


async def test_another_tenants_meters_measure_nothing(ingest: RunningIngest) -> None:
    await metered(ingest, "meters")
    other = await ingest.tenant("no-meters")

    assert list((await measured(other, an_event("1", input="1"))).measurements) == []
