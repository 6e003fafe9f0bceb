"""Events as the log has them, and what is known about ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.errors import Violation
from services.ingest.domain.correction import Correction
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.recording import Fate

__all__ = ["EventCounts", "EventKey", "EventStatus", "StoredEvent", "StoredException"]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A recorded event. `received_at` is real time, `accepted_at` the same on the tenant's clock; `measured` has a
    decimal string per meter that counted it; `unassigned`: no such customer exists at present. (batch id, ordinal)
    is its place in the log. `correction` says why it does not count; `replaces` is in whose place it was recorded.
    `late`: its hour was sealed before."""

    source: str
    event_id: str
    event_type: str
    customer_id: str
    time_ns: int
    properties: Mapping[str, str]
    received_at: datetime
    accepted_at: datetime
    measured: Mapping[str, str]
    unassigned: bool
    batch_id: int
    ordinal: int
    correction: Correction | None
    replaces: EventKey | None
    late: bool


@dataclass(frozen=True, slots=True)
class StoredException:
    """An event that does not count: a conflict or a rejection."""

    key: EventKey
    fate: Fate
    problem: Violation
    received_at: datetime
    customer_id: str
    batch_id: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class EventStatus:
    """What is known about an id; `fate` is RECORDED, REJECTED, or None if the id is unknown."""

    key: EventKey
    fate: Fate | None
    exceptions: Sequence[StoredException]
    duplicates: int
    meter_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Counts of a tenant. The first two are the acceptors', the others the recorders', so that they can disagree."""

    accepted: int
    rejected_at_door: int
    recorded: int
    duplicate: int
    conflict: int
    rejected_by_recorder: int
    unassigned: int
