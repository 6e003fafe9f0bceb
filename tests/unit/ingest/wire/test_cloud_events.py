"""Requests of CloudEvents: limits, and what is wrong as a whole and what with one event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.errors import InvalidInput
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from services.ingest.usecases.ports import OutgoingBatch
from services.ingest.wire.batches import encode_batch
from services.ingest.wire.cloud_events import map_cloud_events
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import ingest_service_pb2 as pb

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MAX_MESSAGE_BYTES = 1 << 20
HEADERS_BYTES = 1_000
EVENT = {"specversion": "1.0", "id": "e", "source": "/g", "type": "t", "subject": "c", "time": "2026-03-10T12:00:00Z"}


def as_json(value: Any) -> pb.IngestCloudEventsRequest:
    content = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return pb.IngestCloudEventsRequest(json=content, ack_level=pb.ACK_LEVEL_QUEUED)


def reason_of(request: pb.IngestCloudEventsRequest) -> str:
    with pytest.raises(InvalidInput) as refused:
        map_cloud_events(request)
    assert [violation.reason for violation in refused.value.violations] == [refused.value.reason]
    return refused.value.reason


class TestARequest:
    def test_may_hold_one_event_or_many_in_every_form(self) -> None:
        assert len(map_cloud_events(as_json(EVENT)).events) == 1
        assert len(map_cloud_events(as_json([EVENT] * MAX_BATCH_EVENTS)).events) == MAX_BATCH_EVENTS
        request = pb.IngestCloudEventsRequest()
        request.event.id = "e"
        assert [event.event_id for event in map_cloud_events(request).events] == ["e"]
        request.batch.events.add(id="f")
        request.batch.events.add(id="g")
        assert [event.event_id for event in map_cloud_events(request).events] == ["f", "g"]

    @pytest.mark.parametrize(
        ("request_", "reason"),
        [
            (pb.IngestCloudEventsRequest(), "CONTENT_MISSING"),
            (pb.IngestCloudEventsRequest(batch=cloud_event_pb2.CloudEventBatch()), "BATCH_EMPTY"),
            (as_json([]), "BATCH_EMPTY"),
            (as_json([0] * (MAX_BATCH_EVENTS + 1)), "BATCH_TOO_LARGE"),
            (as_json(b" " * MAX_BATCH_BYTES), "BATCH_TOO_LARGE"),
            (as_json(b""), "NOT_CLOUD_EVENTS"),
            (as_json(b"5"), "NOT_CLOUD_EVENTS"),
            (as_json(b"[{}"), "NOT_CLOUD_EVENTS"),
            (as_json(b'[{"id": "\xff"}]'), "NOT_CLOUD_EVENTS"),
            (as_json(json.dumps(EVENT).encode("utf-16")), "NOT_CLOUD_EVENTS"),
            (as_json(b"[" * 700_000), "NOT_CLOUD_EVENTS"),
            (as_json(b'{"a":' * 140_000), "NOT_CLOUD_EVENTS"),
        ],
        ids=range(12),
    )
    def test_is_refused_as_a_whole(self, request_: pb.IngestCloudEventsRequest, reason: str) -> None:
        assert reason_of(request_) == reason

    def test_that_is_longer_as_usage_events_is_refused(self) -> None:
        data = {f"{number:x}": 1 for number in range(80_000)}
        request = as_json([{**EVENT, "data": data}])
        assert request.ByteSize() < MAX_BATCH_BYTES
        assert reason_of(request) == "BATCH_TOO_LARGE"

    def test_has_a_problem_for_each_bad_event_and_keeps_the_others(self) -> None:
        batch = map_cloud_events(as_json([EVENT, 5, {**EVENT, "time": None}, {**EVENT, "data": {"n": [1]}}]))
        assert {index: (problem.field, problem.reason) for index, problem in batch.problems.items()} == {
            1: ("", "NOT_AN_OBJECT"),
            2: ("time", "REQUIRED"),
            3: ("data.n", "NOT_A_PROPERTY"),
        }
        assert [event.event_id for event in batch.events] == ["e", "", "e", "e"]

    def test_with_a_huge_number_has_its_text_and_costs_no_arithmetic(self) -> None:
        content = json.dumps({**EVENT, "data": {"n": 0}}).replace("0}", "9" * 400_000 + "}")
        batch = map_cloud_events(as_json(content.encode()))
        assert (batch.problems, len(batch.events[0].properties["n"])) == ({}, 400_000)


class TestWhatGoesIntoTheQueue:
    @pytest.mark.parametrize(
        "bad",
        [
            {"time": "2026-13-10T12:00:00.000000000+23:59"},
            {"data": {"\U00010348" * 16: None}},
            {"amount": 1.5},
            {"datacontenttype": "text/plain", "data": ""},
        ],
        ids=["time", "name", "number", "type"],
    )
    def test_fits_when_everything_is_refused(self, bad: dict[str, Any]) -> None:
        length = (
            MAX_BATCH_BYTES // MAX_BATCH_EVENTS - len(json.dumps({**EVENT, **bad}, ensure_ascii=False).encode()) - 8
        )
        text = "\U00010348" * (length // 12)
        event = {**EVENT, **bad, "id": text, "source": text, "subject": text}
        content = json.dumps([event] * MAX_BATCH_EVENTS, ensure_ascii=False, separators=(",", ":")).encode()
        batch = map_cloud_events(as_json(content))
        assert len(batch.problems) == MAX_BATCH_EVENTS
        outgoing = OutgoingBatch(
            tenant_id="t" * 63,
            number=2**40,
            received_at=NOON,
            accepted_at=NOON,
            events=[],
            rejected_events=[(batch.events[index], problem) for index, problem in batch.problems.items()],
            wants_reply=True,
            accepted_total=2**40,
            rejected_total=2**40,
            abandoned_numbers=(),
            contexts=[],
        )
        assert len(encode_batch(outgoing, "e" * 36, "r" * 100)) <= MAX_MESSAGE_BYTES - HEADERS_BYTES
