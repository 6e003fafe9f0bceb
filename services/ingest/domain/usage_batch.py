"""Usage in columns: what a producer sent, and what an acceptor put into the queue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Protocol

import orjson

from libs.errors import Violation

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 768 * 1024
NANOSECONDS = 1_000_000_000
MAX_SEQUENCE = 1 << 62
"""The greatest number that a source may give to an event."""
_sequence_of = attrgetter("sequence")


class Instant(Protocol):
    """A protobuf Timestamp."""

    seconds: int
    nanos: int


class EventMessage(Protocol):
    """A UsageEvent as it came over the wire; the domain does not know the generated class."""

    event_id: str
    source: str
    event_type: str
    customer_id: str
    sequence: int
    sequence_epoch: str

    @property
    def event_time(self) -> Instant: ...

    @property
    def properties(self) -> Mapping[str, str]: ...

    def SerializeToString(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class UsageColumns:
    """Events as parallel lists of equal length; `times_ns` are nanoseconds since 1970, 0 for a missing time.

    `sequences` (0: not numbered) and `sequence_epochs` are empty if no event has a number, as most have none.
    `no_instants` are the rows whose time is no Timestamp: their `times_ns` look like those of other events.
    """

    event_ids: list[str]
    sources: list[str]
    event_types: list[str]
    customer_ids: list[str]
    times_ns: list[int]
    properties: list[dict[str, str]]
    sequences: list[int] = field(default_factory=list)
    sequence_epochs: list[str] = field(default_factory=list)
    no_instants: list[int] = field(default_factory=list)

    @classmethod
    def from_messages(cls, messages: Sequence[EventMessage]) -> UsageColumns:
        """Read generated messages; comprehensions per column, because this runs for every event."""
        times = [message.event_time for message in messages]
        nanos = [time.nanos for time in times]
        are_instants = min(nanos, default=0) >= 0 and max(nanos, default=0) < NANOSECONDS
        is_numbered = any(map(_sequence_of, messages))
        return cls(
            event_ids=[message.event_id for message in messages],
            sources=[message.source for message in messages],
            event_types=[message.event_type for message in messages],
            customer_ids=[message.customer_id for message in messages],
            times_ns=[time.seconds * NANOSECONDS + nano for time, nano in zip(times, nanos, strict=True)],
            # dict(...) would go through the methods that Mapping has in Python.
            properties=[{key: found[key] for key in found} for found in [message.properties for message in messages]],
            sequences=[message.sequence for message in messages] if is_numbered else [],
            sequence_epochs=[message.sequence_epoch for message in messages] if is_numbered else [],
            no_instants=[] if are_instants else [row for row, nano in enumerate(nanos) if not 0 <= nano < NANOSECONDS],
        )

    def __len__(self) -> int:
        return len(self.event_ids)

    def of(self, rows: Sequence[int]) -> UsageColumns:
        """Some of the events, in the order of the rows."""
        return UsageColumns(
            event_ids=[self.event_ids[row] for row in rows],
            sources=[self.sources[row] for row in rows],
            event_types=[self.event_types[row] for row in rows],
            customer_ids=[self.customer_ids[row] for row in rows],
            times_ns=[self.times_ns[row] for row in rows],
            properties=[self.properties[row] for row in rows],
        )

    def payload_hashes(self) -> list[bytes]:
        """Hash each event's content, the part beside its identity (16 bytes each); see `payload_hash`."""
        columns = zip(self.event_types, self.customer_ids, self.times_ns, self.properties, strict=True)
        return [payload_hash(*content) for content in columns]


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that did not pass the door, as far as it is kept; the ids are what the producer sent, cut."""

    event_id: str
    source: str
    event_type: str
    customer_id: str
    time_ns: int
    problem: Violation
    sequence: int = 0
    sequence_epoch: str = ""


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What an acceptor took from one tenant; (tenant, epoch, number) identifies it over redeliveries.

    `received_at` is real time, `accepted_at` the same instant on the tenant's clock. The ordinal of an event is its
    index in `events`, that of a rejected event is -1 - its index. The totals are the acceptor's own count so far.
    """

    tenant_id: str
    acceptor_epoch: str
    batch_number: int
    received_at: datetime
    accepted_at: datetime
    events: UsageColumns
    rejected: Sequence[RejectedEvent]
    accepted_total: int
    rejected_total: int
    abandoned_numbers: Sequence[int]
    trace_parent: str


def payload_hash(event_type: str, customer_id: str, time_ns: int, properties: Mapping[str, str]) -> bytes:
    """BLAKE2b-128 of the canonical JSON array [type, customer, nanoseconds, properties].

    Canonical: UTF-8, no blanks, keys sorted by code point, only quotes, backslashes and control characters escaped.
    The hashes are stored, so the encoding never changes.
    """
    content = orjson.dumps((event_type, customer_id, time_ns, properties), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=16).digest()


def storable(text: str, max_length: int = 128) -> str:
    """What is kept of a refused text: cut, and without U+0000, which PostgreSQL cannot store. It never gets longer, not
    even in UTF-8, because what is kept of a whole batch has to fit into a message of the queue."""
    return text[:max_length].replace("\x00", "?")
