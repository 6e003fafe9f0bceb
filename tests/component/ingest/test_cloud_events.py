"""CloudEvents to a real acceptor: verdicts, fates and what is stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from libs.rpc import service_error_from
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import ingest_service_pb2_grpc, meter_pb2, usage_service_pb2
from tests.component.ingest.running import RunningIngest, Tenant, running_ingest, until

RECORDED, DUPLICATE = pb.EVENT_VERDICT_RECORDED, pb.EVENT_VERDICT_DUPLICATE
REJECTED, CONFLICT = pb.EVENT_VERDICT_REJECTED, pb.EVENT_VERDICT_CONFLICT
NOW = datetime.now(UTC)
TOKENS = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="tokens"
)


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "cloud-events") as running:
        yield running


def an_event(event_id: str, **changes: Any) -> dict[str, Any]:
    event = {"specversion": "1.0", "id": event_id, "source": "/gateway", "type": "llm.request", "subject": "cust-01"}
    return event | {"time": NOW.isoformat(), "data": {"tokens": 1}} | changes


def as_message(event_id: str, data: str) -> cloud_event_pb2.CloudEvent:
    """The same event as `an_event`, in protobuf."""
    message = cloud_event_pb2.CloudEvent(
        id=event_id, source="/gateway", spec_version="1.0", type="llm.request", text_data=data
    )
    message.attributes["subject"].ce_string = "cust-01"
    message.attributes["time"].ce_timestamp.FromDatetime(NOW)
    return message


async def send(tenant: Tenant, **content: Any) -> pb.IngestCloudEventsResponse:
    stub = ingest_service_pb2_grpc.IngestServiceStub(tenant.ingest.channels["accept"])
    request = pb.IngestCloudEventsRequest(ack_level=pb.ACK_LEVEL_RECORDED, **content)
    return await stub.IngestCloudEvents(request, metadata=tenant.key, timeout=20)


async def stored(tenant: Tenant, event_id: str) -> usage_service_pb2.StoredEvent:
    request = usage_service_pb2.GetEventRequest(source="/gateway", event_id=event_id)
    return (await tenant.usage.GetEvent(request, metadata=tenant.key, timeout=20)).event


class TestCloudEvents:
    async def test_are_the_same_event_in_every_form(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("forms")
        text = json.dumps(an_event("1")).replace('"tokens": 1', '"tokens": 1.10')
        assert list((await send(tenant, json=text.encode())).verdicts) == [RECORDED]
        message = as_message("1", '{"tokens": 1.10}')
        assert list((await send(tenant, event=message)).verdicts) == [DUPLICATE]
        batch = cloud_event_pb2.CloudEventBatch(events=[message, as_message("1", '{"tokens": 1.1}')])
        assert list((await send(tenant, batch=batch)).verdicts) == [DUPLICATE, CONFLICT]

    async def test_keep_digits_and_nanoseconds(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("exact")
        await tenant.create_meter(TOKENS)
        time = f"{NOW:%Y-%m-%dT%H:%M:%S}.123456789Z"
        number = "12345678901234567890.000000000010"
        text = json.dumps(an_event("1", time=time)).replace('"tokens": 1', f'"tokens": {number}')
        assert list((await send(tenant, json=text.encode())).verdicts) == [RECORDED]
        event = await stored(tenant, "1")
        assert event.event.event_time.nanos == 123456789
        assert event.event.properties["tokens"] == number
        assert event.measured_values["tokens"] == "12345678901234567890.00000000001"

    async def test_a_bad_event_sinks_no_other_and_has_its_fate(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("partial")
        await tenant.create_meter(TOKENS)
        events: list[Any] = [
            an_event("good-1"),
            an_event("no-time", time=None),
            an_event("nested", data={"tokens": {"in": 1}}),
            an_event("no-number", data={"tokens": "many"}),
            an_event("good-2"),
            "no event",
            an_event("old", time="2001-01-01T00:00:00Z"),
        ]
        answer = await send(tenant, json=json.dumps(events).encode())
        assert list(answer.verdicts) == [RECORDED, REJECTED, REJECTED, REJECTED, RECORDED, REJECTED, REJECTED]
        assert [(problem.index, problem.field, problem.reason) for problem in answer.problems] == [
            (1, "time", "REQUIRED"),
            (2, "data.tokens", "NOT_A_PROPERTY"),
            (3, "properties.tokens", "NOT_A_NUMBER"),
            (5, "", "NOT_AN_OBJECT"),
            (6, "event_time", "TOO_OLD"),
        ]
        assert answer.receipt.batch_number > 0
        counts = await tenant.counts()
        assert (counts.sent, counts.accepted, counts.rejected_at_door, counts.recorded) == (7, 2, 5, 2)
        assert await tenant.failed_checks() == []
        request = usage_service_pb2.ListEventExceptionsRequest()
        exceptions = await tenant.usage.ListEventExceptions(request, metadata=tenant.key, timeout=20)
        assert {(item.key.event_id, item.reason) for item in exceptions.exceptions} == {
            ("no-time", "REQUIRED"),
            ("nested", "NOT_A_PROPERTY"),
            ("no-number", "NOT_A_NUMBER"),
            ("", "NOT_AN_OBJECT"),
            ("old", "TOO_OLD"),
        }

    async def test_when_all_are_bad_the_fates_hold_too(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("all-bad")
        assert list((await send(tenant, json=b"[{}, {}]")).verdicts) == [REJECTED, REJECTED]

        async def counted() -> bool:  # Nobody waits for the recorder if nothing was accepted.
            counts = await tenant.counts()
            return (counts.sent, counts.accepted, counts.rejected_at_door) == (2, 0, 2)

        await until(counted)
        assert await tenant.failed_checks() == []

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({}, "CONTENT_MISSING"),
            ({"json": b"[" * 100_000}, "NOT_CLOUD_EVENTS"),
            ({"json": b"[]"}, "BATCH_EMPTY"),
            ({"json": b"[0" + b",0" * 1000 + b"]"}, "BATCH_TOO_LARGE"),
        ],
        ids=["nothing", "deep", "empty", "many"],
    )
    async def test_what_is_refused_as_a_whole(
        self, ingest: RunningIngest, content: dict[str, bytes], reason: str
    ) -> None:
        tenant = await ingest.tenant(f"whole-{reason.lower().replace('_', '-')}")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await send(tenant, **content)
        error = service_error_from(refused.value)
        assert (refused.value.code(), error and error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert (await tenant.counts()).sent == 0

    async def test_an_ack_level_is_asked_for(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("level")
        stub = ingest_service_pb2_grpc.IngestServiceStub(ingest.channels["accept"])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.IngestCloudEvents(pb.IngestCloudEventsRequest(json=b"{}"), metadata=tenant.key, timeout=20)
        error = service_error_from(refused.value)
        assert error is not None
        assert error.reason == "ACK_LEVEL_MISSING"
