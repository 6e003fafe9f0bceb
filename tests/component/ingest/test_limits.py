"""Every limit one below, at and one above, by calls to a real acceptor, and each kind of CloudEvent."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from libs.rpc import service_error_from
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import (
    ingest_service_pb2_grpc,
    meter_pb2,
    meter_service_pb2,
    meter_service_pb2_grpc,
    usage_event_pb2,
)
from tests.component.ingest.running import Tenant, running_ingest, until
from tests.support.limits import EVENT_EDGES, METER_EDGES, METERED_TYPE, EventEdge, EventParts, MeterEdge

NOW_S = int(datetime(2026, 3, 10, 12, 0, tzinfo=UTC).timestamp())
AMOUNTS = meter_pb2.Meter(
    meter_id="amounts", event_type=METERED_TYPE, aggregation=meter_pb2.AGGREGATION_SUM, expression="amount"
)
ATTRIBUTES = {"event_id": "id", "source": "source", "event_type": "type", "customer_id": "subject"}
NANOS = 1_000_000_000
_numbers = itertools.count()

Send = Callable[[Tenant, list[EventParts]], Awaitable[pb.IngestCloudEventsResponse | pb.IngestEventsResponse]]


@pytest.fixture(scope="module")
async def tenant(server_root: Path) -> AsyncIterator[Tenant]:
    """On a test clock, so that its now is an exact instant, and with a meter that the acceptor knows."""
    async with running_ingest(server_root / "limits") as running:
        await running.clock("limits", datetime.fromtimestamp(NOW_S, UTC))
        tenant = await running.tenant("limits")
        await tenant.create_meter(AMOUNTS)

        async def is_known() -> bool:
            answer = await as_events(tenant, [EventParts({"event_type": METERED_TYPE}, {"amount": "x"})])
            return list(answer.verdicts) == [pb.EVENT_VERDICT_REJECTED]

        await until(is_known)
        yield tenant


def texts_of(parts: EventParts) -> dict[str, Any]:
    own_id = f"e{next(_numbers)}"
    good = {"event_id": own_id, "source": "/gateway", "event_type": "other", "customer_id": "cust-01"}
    # Also an id at the limit is one of its own.
    given = {
        name: text[:-8] + own_id.rjust(8, "_") if name == "event_id" else text for name, text in parts.texts.items()
    }
    return good | given


def time_of(parts: EventParts) -> tuple[int, int]:
    return divmod(NOW_S * NANOS + parts.offset_ns, NANOS)


async def as_events(tenant: Tenant, given: list[EventParts]) -> pb.IngestEventsResponse:
    events = []
    for parts in given:
        event = usage_event_pb2.UsageEvent(**texts_of(parts), properties=parts.properties)
        event.event_time.seconds, event.event_time.nanos = time_of(parts)
        events.append(event)
    stub = ingest_service_pb2_grpc.IngestServiceStub(tenant.ingest.channels["accept"])
    request = pb.IngestEventsRequest(events=events, ack_level=pb.ACK_LEVEL_QUEUED)
    return await stub.IngestEvents(request, metadata=tenant.key, timeout=20)


async def cloud_events(tenant: Tenant, request: pb.IngestCloudEventsRequest) -> pb.IngestCloudEventsResponse:
    stub = ingest_service_pb2_grpc.IngestServiceStub(tenant.ingest.channels["accept"])
    request.ack_level = pb.ACK_LEVEL_QUEUED
    return await stub.IngestCloudEvents(request, metadata=tenant.key, timeout=20)


async def as_json(tenant: Tenant, given: list[EventParts]) -> pb.IngestCloudEventsResponse:
    events = []
    for parts in given:
        seconds, nanos = time_of(parts)
        at = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
        texts = {ATTRIBUTES[name]: text for name, text in texts_of(parts).items()}
        events.append({"specversion": "1.0", "time": at, "data": dict(parts.properties)} | texts)
    return await cloud_events(tenant, pb.IngestCloudEventsRequest(json=json.dumps(events).encode()))


async def as_protobuf(tenant: Tenant, given: list[EventParts]) -> pb.IngestCloudEventsResponse:
    batch = cloud_event_pb2.CloudEventBatch()
    for parts in given:
        texts = texts_of(parts)
        event = batch.events.add(
            id=texts["event_id"],
            source=texts["source"],
            spec_version="1.0",
            type=texts["event_type"],
            text_data=json.dumps(dict(parts.properties)),
        )
        event.attributes["subject"].ce_string = texts["customer_id"]
        instant = event.attributes["time"].ce_timestamp
        instant.seconds, instant.nanos = time_of(parts)
    return await cloud_events(tenant, pb.IngestCloudEventsRequest(batch=batch))


class TestEvents:
    @pytest.mark.parametrize("send", [as_events, as_json, as_protobuf])
    @pytest.mark.parametrize("edge", EVENT_EDGES, ids=str)
    async def test_above_a_limit_are_refused_each_with_its_reason(
        self, tenant: Tenant, edge: EventEdge, send: Send
    ) -> None:
        answer = await send(tenant, [edge.at(edge.limit - 1), edge.at(edge.limit), edge.at(edge.limit + 1)])

        queued, rejected = pb.EVENT_VERDICT_QUEUED, pb.EVENT_VERDICT_REJECTED
        assert list(answer.verdicts) == [queued, queued, rejected]
        assert [(found.index, found.field, found.reason) for found in answer.problems] == [(2, edge.field, edge.reason)]

    async def test_without_a_timestamp_in_their_time_are_refused(self, tenant: Tenant) -> None:
        event = usage_event_pb2.UsageEvent(**texts_of(EventParts()))
        event.event_time.seconds, event.event_time.nanos = NOW_S, NANOS
        stub = ingest_service_pb2_grpc.IngestServiceStub(tenant.ingest.channels["accept"])
        request = pb.IngestEventsRequest(events=[event], ack_level=pb.ACK_LEVEL_QUEUED)

        answer = await stub.IngestEvents(request, metadata=tenant.key, timeout=20)

        assert [found.reason for found in answer.problems] == ["NOT_AN_INSTANT"]


class TestBatches:
    @pytest.mark.parametrize("send", [as_events, as_json, as_protobuf])
    async def test_have_a_limit_of_events(self, tenant: Tenant, send: Send) -> None:
        for count in (MAX_BATCH_EVENTS - 1, MAX_BATCH_EVENTS):
            assert len((await send(tenant, [EventParts()] * count)).verdicts) == count
        assert await reason_of(send(tenant, [EventParts()] * (MAX_BATCH_EVENTS + 1))) == "BATCH_TOO_LARGE"

    async def test_of_events_have_a_limit_of_bytes(self, tenant: Tenant) -> None:
        async def send(request: pb.IngestEventsRequest) -> object:
            stub = ingest_service_pb2_grpc.IngestServiceStub(tenant.ingest.channels["accept"])
            return await stub.IngestEvents(request, metadata=tenant.key, timeout=20)

        for size_bytes in (MAX_BATCH_BYTES - 1, MAX_BATCH_BYTES):
            await send(events_of_size(size_bytes))
        assert await reason_of(send(events_of_size(MAX_BATCH_BYTES + 1))) == "BATCH_TOO_LARGE"

    async def test_of_json_have_a_limit_of_bytes(self, tenant: Tenant) -> None:
        event = {"specversion": "1.0", "id": "blanks", "source": "/gateway", "type": "other", "subject": "c"}
        event["time"] = f"{datetime.fromtimestamp(NOW_S, UTC):%Y-%m-%dT%H:%M:%SZ}"

        def of_size(size_bytes: int) -> pb.IngestCloudEventsRequest:
            request = pb.IngestCloudEventsRequest(json=json.dumps(event).encode(), ack_level=pb.ACK_LEVEL_QUEUED)
            missing = size_bytes - request.ByteSize()
            request.json += b" " * (missing - 2)  # Its length takes two bytes more.
            assert request.ByteSize() == size_bytes
            return request

        for size_bytes in (MAX_BATCH_BYTES - 1, MAX_BATCH_BYTES):
            await cloud_events(tenant, of_size(size_bytes))
        assert await reason_of(cloud_events(tenant, of_size(MAX_BATCH_BYTES + 1))) == "BATCH_TOO_LARGE"


class TestMeters:
    @pytest.mark.parametrize("edge", METER_EDGES, ids=str)
    async def test_above_a_limit_are_refused_with_the_field(self, tenant: Tenant, edge: MeterEdge) -> None:
        stub = meter_service_pb2_grpc.MeterServiceStub(tenant.ingest.channels["query"])

        async def check(meter: meter_pb2.Meter) -> None:
            request = meter_service_pb2.CreateMeterRequest(
                request_id=str(uuid.uuid4()), meter=meter, validate_only=True
            )
            await stub.CreateMeter(request, metadata=tenant.key, timeout=20)

        await check(edge.at(edge.limit - 1))
        await check(edge.at(edge.limit))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(edge.at(edge.limit + 1))
        error = service_error_from(refused.value)
        assert [(found.field, found.reason) for found in error.violations] == [(edge.field, edge.reason)]  # type: ignore[union-attr]


def events_of_size(size_bytes: int) -> pb.IngestEventsRequest:
    request = pb.IngestEventsRequest(ack_level=pb.ACK_LEVEL_QUEUED)

    def add() -> usage_event_pb2.UsageEvent:
        event = request.events.add(**texts_of(EventParts()))
        event.event_time.seconds = NOW_S
        return event

    while size_bytes - request.ByteSize() > 20_000:
        add().properties.update({f"p{number}": "v" * 256 for number in range(32)})
    while size_bytes - request.ByteSize() > 400:
        add().properties.update({"p": "v" * 200})
    # Of events of this length every further character is a byte.
    for event in reversed(request.events):
        event.source += "s" * min(100, size_bytes - request.ByteSize())
    assert request.ByteSize() == size_bytes
    return request


async def reason_of(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = service_error_from(refused.value)
    return error.reason if error else ""
