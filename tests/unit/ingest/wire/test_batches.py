"""What is put into the queue fits into a message of it, whatever a producer sends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from libs.errors import Violation
from services.ingest.domain.door import DoorPolicy, door_problems
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Aggregation, Meter, meter_violations
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventMessage, UsageColumns
from services.ingest.usecases.ports import OutgoingBatch
from services.ingest.wire.batches import batch_from_pb, encode_batch
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2, usage_raw_pb2

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MAX_MESSAGE_BYTES = 1 << 20
"""Of NATS, for headers and payload."""
HEADERS_BYTES = 1_000

METER = Meter("m" * 64, "", "llm.request", Aggregation.SUM, "p" * 500)
"""Its property is missing everywhere, and its name is long."""


def an_event(size_bytes: int, ids: str = "", **properties: str) -> usage_event_pb2.UsageEvent:
    """An event of about that size: what is missing is filled up with its ids, which are kept when it is refused."""
    event = usage_event_pb2.UsageEvent(event_type="llm.request", properties=properties)
    event.event_time.FromDatetime(NOON)
    missing = max(size_bytes - event.ByteSize() - 12, 3)
    event.event_id, event.source, event.customer_id = (
        ids or "\U00010348" * min(missing // 12, 128) or "e" * (missing // 3) for _ in range(3)
    )
    return event


def all_refused(event: usage_event_pb2.UsageEvent) -> OutgoingBatch:
    """As many of the event as one call may have, as the door leaves them."""
    assert meter_violations(METER) == []
    count = min(MAX_BATCH_EVENTS, MAX_BATCH_BYTES // (event.ByteSize() + 3))
    events: list[EventMessage] = [event] * count
    request = ingest_service_pb2.IngestEventsRequest(events=[event] * count)
    assert request.ByteSize() <= MAX_BATCH_BYTES
    columns = UsageColumns.from_messages(events)
    problems = door_problems(columns, DoorPolicy(), NOON)
    problems |= measure(columns, [METER], problems).problems
    assert len(problems) == count
    return OutgoingBatch(
        tenant_id="a" * 63,
        number=1 << 40,
        received_at=NOON,
        accepted_at=NOON,
        events=[],
        rejected_events=[(events[index], problem) for index, problem in problems.items()],
        wants_reply=True,
        accepted_total=1 << 40,
        rejected_total=1 << 40,
        abandoned_numbers=[],
        contexts=[],
    )


class TestRefusedEvents:
    @pytest.mark.parametrize("size_bytes", [20, 400, 780, 2_000])
    @pytest.mark.parametrize(
        ("ids", "properties"),
        [
            ("", {}),  # Lacks the property of the meter.
            ("\x00" * 128, {}),
            ("", {"p" * 500: "x"}),
            ("", {"p" * 64: "\x00" * 250}),
            ("", {"\x00" * 64: "x"}),
            ("", {"\U00010348" * 65: "x"}),
        ],
    )
    def test_fit_into_one_message(self, size_bytes: int, ids: str, properties: Mapping[str, str]) -> None:
        batch = all_refused(an_event(size_bytes, ids, **properties))

        message = encode_batch(batch, "e" * 36, "reply.ingest." + "e" * 36)

        assert len(message) + HEADERS_BYTES <= MAX_MESSAGE_BYTES

    @pytest.mark.parametrize("size_bytes", [20, 780])
    def test_also_if_their_numbers_are_none(self, size_bytes: int) -> None:
        meter = Meter("m" * 64, "", "llm.request", Aggregation.SUM, "p")
        events: list[EventMessage] = [an_event(size_bytes, p="\U0010ffff" * 40)] * MAX_BATCH_EVENTS
        problems = measure(UsageColumns.from_messages(events), [meter]).problems
        rejected = [(events[index], problem) for index, problem in problems.items()]
        batch = OutgoingBatch("acme", 1, NOON, NOON, [], rejected, False, 0, 1_000, [], [])

        assert len(problems) == MAX_BATCH_EVENTS
        assert len(encode_batch(batch, "e" * 36, "")) + HEADERS_BYTES <= MAX_MESSAGE_BYTES


class TestNumbersOfSources:
    def test_come_with_accepted_and_with_refused_events(self) -> None:
        accepted, plain, refused = (usage_event_pb2.UsageEvent(source="gateway") for _ in range(3))
        for event in (accepted, plain):
            event.event_time.FromDatetime(NOON)
        accepted.sequence, accepted.sequence_epoch = 4, "life"
        refused.sequence, refused.sequence_epoch = 5, "life"
        batch = OutgoingBatch(
            tenant_id="acme",
            number=1,
            received_at=NOON,
            accepted_at=NOON,
            events=[accepted.SerializeToString(), plain.SerializeToString()],
            rejected_events=[(refused, Violation("event_time", "REQUIRED", "must be set"))],
            wants_reply=False,
            accepted_total=2,
            rejected_total=1,
            abandoned_numbers=[],
            contexts=[],
        )

        found = batch_from_pb(usage_raw_pb2.AcceptedBatch.FromString(encode_batch(batch, "epoch", "")), "")

        assert (found.events.sequences, found.events.sequence_epochs) == ([4, 0], ["life", ""])
        assert [(event.sequence, event.sequence_epoch) for event in found.rejected] == [(5, "life")]

    def test_cost_nothing_where_there_are_none(self) -> None:
        columns = UsageColumns.from_messages([usage_event_pb2.UsageEvent(sequence_epoch="life")])

        assert (columns.sequences, columns.sequence_epochs) == ([], [])

    def test_are_no_part_of_the_content(self) -> None:
        events: list[EventMessage] = [usage_event_pb2.UsageEvent(sequence=number) for number in (1, 2)]

        first, second = UsageColumns.from_messages(events).payload_hashes()

        assert first == second
