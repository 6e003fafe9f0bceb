"""The one workload of all benchmarks: events of about 200 bytes, by many customers, over one open billing period."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from benchmarks.report import Value
from libs.cli.demo.workload import EVENT_TYPE
from steelyard.events import new_event_id
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2

BATCH_EVENTS = 1_000
PERIOD_START = datetime(2026, 1, 1, tzinfo=UTC)
PERIOD_END = datetime(2026, 2, 1, tzinfo=UTC)
CLOCK = PERIOD_END - timedelta(seconds=1)
"""Where the tenant's test clock stands while events are sent, so that every time of the period is in the past."""

SOURCE = "llm-gateway-7f9c4d5b6-x2k8q.eu-central-1.example.com"
_SEED = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """`events` of `customers`, with times spread evenly over the last `spread` of the period.

    The spread decides how many 15-minute windows the events fall into: over the whole month nearly every event has
    windows of its own, over the last minute a customer's events share one per meter. `advancing`: in the order in which
    they are sent, as time passes where producers send at once; else at random.
    """

    events: int
    customers: int = 1_000
    spread: timedelta = PERIOD_END - PERIOD_START
    random_ids: bool = False
    advancing: bool = False

    def scaled(self, scale: float) -> Workload:
        """Return it with fewer (or more) events and customers."""
        batches = max(1, round(self.events * scale / BATCH_EVENTS))
        return replace(self, events=batches * BATCH_EVENTS, customers=max(2, round(self.customers * scale)))

    def customer_ids(self) -> list[str]:
        """The ids of all customers."""
        return [f"customer-{index:05d}-of-the-benchmark" for index in range(self.customers)]

    def requests(self, *, batch_events: int = BATCH_EVENTS) -> list[bytes]:
        """Return all events as serialised IngestEventsRequests; the same but for their ids at every call."""
        return list(self.stream(batch_events=batch_events))

    def stream(self, *, batch_events: int = BATCH_EVENTS, part: tuple[float, float] = (0.0, 1.0)) -> Iterator[bytes]:
        """Make them one after another, for workloads that are too large to be kept.

        :param part: where in `spread` the first and the last one lie, from 0 to 1, if times are advancing
        """
        rng = random.Random(_SEED)
        customers = self.customer_ids()
        for at in range(0, self.events, batch_events):
            count = min(batch_events, self.events - at)
            over = part[0] + (part[1] - part[0]) * at / self.events if self.advancing else None
            yield request([self._event(rng, rng.choice(customers), over) for _ in range(count)])

    def facts(self) -> dict[str, Value]:
        """What is fixed and printed."""
        sample = self._event(random.Random(_SEED), self.customer_ids()[0])
        return {
            "tenants": 1,
            "customers": self.customers,
            "meters": 4,
            "properties": len(sample.properties),
            "events": self.events,
            "event_bytes": sample.ByteSize(),
            "event_ids": "random" if self.random_ids else "UUIDv7",
            "event_times": f"{'advancing' if self.advancing else 'spread'} over {self.spread}",
        }

    def _event(self, rng: random.Random, customer_id: str, over: float | None = None) -> usage_event_pb2.UsageEvent:
        """`over`: how much of the spread has passed; None: any time of it."""
        before_end_s = (rng.random() if over is None else 1 - over) * (self.spread.total_seconds() - 1)
        at = PERIOD_END - timedelta(seconds=1 + before_end_s)
        made = event(customer_id, at, 1 + int(rng.lognormvariate(6.4, 1.1)), 1 + int(rng.lognormvariate(4.6, 1.0)))
        if self.random_ids:
            made.event_id = str(uuid.uuid4())
        return made


def event(customer_id: str, at: datetime, input_tokens: int, output_tokens: int) -> usage_event_pb2.UsageEvent:
    """Make one event under a new id."""
    made = usage_event_pb2.UsageEvent(
        event_id=new_event_id(),
        source=SOURCE,
        event_type=EVENT_TYPE,
        customer_id=customer_id,
        properties={"input_tokens": str(input_tokens), "output_tokens": str(output_tokens)},
    )
    made.event_time.FromDatetime(at)
    return made


def request(events: Sequence[usage_event_pb2.UsageEvent]) -> bytes:
    """Serialise a batch that is to be acknowledged once it is on disk."""
    return ingest_service_pb2.IngestEventsRequest(
        events=events, ack_level=ingest_service_pb2.ACK_LEVEL_QUEUED
    ).SerializeToString()
