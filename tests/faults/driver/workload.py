"""What the producers of a run send: small, and with everything that goes wrong in a producer's life.

Both tenants use the same customers, ids and sources, so that a mix-up of tenants would show as a conflict or as a
wrong sum.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.demo.workload import EVENT_TYPE
from steelyard.ingest.v1 import usage_event_pb2

SOURCE = "faults"
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
CUSTOMERS: Mapping[str, str] = {
    "plain": "tok_ok",
    "declined-first": "tok_decline_then_ok",
    "charged-silently": "tok_timeout_after_charge",
    "dropped": "tok_timeout_before_charge",
}
"""Customers and the gateway tokens that their cards have."""

_RESENT, _CONFLICTING, _REFUSED = 0.4, 0.1, 0.05


@dataclass(frozen=True, slots=True)
class Event:
    """A usage event; `refused`: it is wrong, and the door has to say so."""

    event_id: str
    customer: str
    at: datetime
    input_tokens: str
    output_tokens: str
    refused: bool = False

    def to_pb(self) -> usage_event_pb2.UsageEvent:
        """Encode it."""
        stamp = Timestamp()
        stamp.FromDatetime(self.at)
        return usage_event_pb2.UsageEvent(
            event_id=self.event_id,
            source=SOURCE,
            event_type=EVENT_TYPE,
            customer_id=self.customer,
            event_time=stamp,
            properties={"input_tokens": self.input_tokens, "output_tokens": self.output_tokens},
        )

    def to_json(self) -> dict[str, Any]:
        """What the history keeps of it, the digest of its payload included."""
        body = payload(self.customer, int(self.at.timestamp()), self.input_tokens, self.output_tokens)
        return {"id": self.event_id, **body, "digest": digest(body), "refused": self.refused}


def payload(customer: str, at_s: int, input_tokens: str, output_tokens: str) -> dict[str, Any]:
    """What may not change under an id."""
    return {"customer": customer, "at_s": at_s, "input": input_tokens, "output": output_tokens}


def digest(body: Mapping[str, Any]) -> str:
    """Digest of a payload."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one call; `wait_recorded`: the answer has to wait for the recorder."""

    events: tuple[Event, ...]
    wait_recorded: bool


def batches(
    seed: int,
    tenant: str,
    count: int,
    *,
    quarters: int = 24,
    recorded_share: float = 0.25,
    repeated_share: float = 0.2,
) -> list[Batch]:
    """The calls of one tenant, in order; the same for the same seed.

    Event times lie in so many quarters of an hour: the fewer, the more often each window changes. `recorded_share` of
    the calls wait until their events are recorded, `repeated_share` are sent twice, as by a producer without an answer.
    """
    rng = random.Random(f"{seed}:{tenant}")
    names = list(CUSTOMERS)
    made: list[Batch] = []
    sent: list[Event] = []
    for number in range(count):
        fresh = [_event(rng, f"e-{number:04d}-{index}", names, quarters) for index in range(rng.randint(3, 20))]
        events = [
            replace(event, input_tokens="NaN", refused=True) if rng.random() < _REFUSED else event for event in fresh
        ]
        good = [event for event in events if not event.refused]
        earlier = rng.sample(sent, min(len(sent), 4))
        events += [event for event in earlier if rng.random() < _RESENT]
        events += [_other_content(event) for event in earlier if rng.random() < _CONFLICTING]
        rng.shuffle(events)
        sent += good
        made.append(Batch(tuple(events), rng.random() < recorded_share))
    for number in sorted(rng.sample(range(count), int(count * repeated_share)), reverse=True):
        made.insert(rng.randint(number + 1, len(made)), made[number])
    return made


def _event(rng: random.Random, event_id: str, names: Sequence[str], quarters: int) -> Event:
    quarter = rng.randrange(quarters)
    # Windows on the first and the last day of the month, and in its middle: late events count like others.
    day = (timedelta(0), timedelta(days=14), timedelta(days=30))[quarter % 3]
    at = START + day + timedelta(minutes=15 * (quarter // 3), seconds=rng.randrange(900))
    return Event(event_id, rng.choice(names), at, str(rng.randint(1, 9_999)), str(rng.randint(1, 999)))


def _refused(event: Event) -> Event:
    return replace(event, input_tokens="NaN", refused=True)


def _other_content(event: Event) -> Event:
    return replace(event, input_tokens=str(int(event.input_tokens) + 1_000_000))
