"""Questions about single events and their fates; the store answers them, each in a transaction of one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from services.ingest.domain.event_trace import EventTrace
from services.ingest.domain.stored_event import EventCounts, EventKey, EventStatus, StoredEvent, StoredException


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Which events are listed; empty and None do not restrict. The times are those of the events."""

    customer_id: str = ""
    event_type: str = ""
    start: datetime | None = None
    end: datetime | None = None
    unassigned_only: bool = False


Receipt = tuple[str, int]
"""Acceptor epoch and batch number: what an acceptor answered."""


class BatchState(Enum):
    """How far a batch has come; BatchState in the protos says what each means for a producer."""

    QUEUED = "queued"
    RECORDED = "recorded"
    LOST = "lost"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """What is known about a batch. `exceptions` are the recorder's, ordered; not the refusals at the door."""

    receipt: Receipt
    state: BatchState
    exceptions: Sequence[StoredException]


class EventStore(Protocol):
    async def event(self, tenant_id: str, key: EventKey) -> StoredEvent:
        """
        :raises EventNotFound: if no such event is recorded
        """

    async def events(
        self, tenant_id: str, selection: EventSelection, before: tuple[int, int, int] | None, limit: int
    ) -> list[StoredEvent]:
        """Return events, newest event time first, behind the one at `before` (time in ns, batch id, ordinal)."""

    async def statuses(self, tenant_id: str, keys: Sequence[EventKey]) -> list[EventStatus]:
        """Return what is known about each id, in order."""

    async def traces(self, tenant_id: str, keys: Sequence[EventKey]) -> dict[EventKey, EventTrace]:
        """Return what became of those events that are recorded."""

    async def batch_statuses(self, tenant_id: str, receipts: Sequence[Receipt]) -> list[BatchStatus]:
        """Return how far each batch has come, in order.

        QUEUED is what is not known to be anything else: also a number that was never given, and the last batches of an
        acceptor that ended, if the queue lost them, because no later number makes a gap. LOST needs such a gap.

        :raises InvalidInput: if the batches have too many exceptions for one answer; those of one always fit
        """

    async def exceptions(
        self, tenant_id: str, before: tuple[datetime, int, int] | None, limit: int
    ) -> list[StoredException]:
        """Return conflicts and rejections, newest first, behind the one at `before` (received, batch id, ordinal)."""

    async def counts(self, tenant_id: str) -> EventCounts: ...
