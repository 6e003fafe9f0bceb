"""The workload is what the result files say it is."""

from __future__ import annotations

from datetime import timedelta

from benchmarks.workload import CLOCK, PERIOD_START, Workload
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2


def events_of(requests: list[bytes]) -> list[usage_event_pb2.UsageEvent]:
    return [event for item in requests for event in ingest_service_pb2.IngestEventsRequest.FromString(item).events]


class TestWorkload:
    def test_has_its_events_in_batches(self) -> None:
        requests = Workload(events=2_500, customers=10).requests()
        batches = [ingest_service_pb2.IngestEventsRequest.FromString(item) for item in requests]
        assert [len(batch.events) for batch in batches] == [1000, 1000, 500]
        assert {batch.ack_level for batch in batches} == {ingest_service_pb2.ACK_LEVEL_QUEUED}

    def test_lies_in_the_open_period(self) -> None:
        workload = Workload(events=2_000, customers=10)
        events = events_of(workload.requests())
        times = [event.event_time.ToDatetime(PERIOD_START.tzinfo) for event in events]
        assert PERIOD_START <= min(times) < PERIOD_START + timedelta(days=1)
        assert CLOCK - timedelta(days=1) < max(times) <= CLOCK
        assert {event.customer_id for event in events} == set(workload.customer_ids())
        assert 180 <= sum(event.ByteSize() for event in events) / len(events) <= 220

    def test_keeps_to_its_spread(self) -> None:
        requests = Workload(events=1_000, customers=10, spread=timedelta(hours=1)).requests()
        times = [event.event_time.ToDatetime(PERIOD_START.tzinfo) for event in events_of(requests)]
        assert CLOCK - timedelta(hours=1) < min(times) < max(times) <= CLOCK

    def test_is_the_same_each_time_but_for_the_ids(self) -> None:
        workload = Workload(events=1_000, customers=10)
        first, second = events_of(workload.requests()), events_of(workload.requests())
        assert len({event.event_id for event in first + second}) == 2_000
        for event in first + second:
            event.event_id = ""
        assert first == second

    def test_scales(self) -> None:
        assert Workload(events=300_000).scaled(0.1) == Workload(events=30_000, customers=100)
        assert Workload(events=20_000).scaled(0.001) == Workload(events=1_000, customers=2)
