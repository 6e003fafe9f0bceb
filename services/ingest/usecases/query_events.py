"""Questions about single events and their fates; the store answers them, each in a transaction of one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.ingest.domain.stored_event import EventCounts, EventKey, EventStatus, StoredEvent, StoredException


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Which events are listed; empty and None do not restrict. The times are those of the events."""

    customer_id: str = ""
    event_type: str = ""
    start: datetime | None = None
    end: datetime | None = None
    unassigned_only: bool = False


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

    async def exceptions(
        self, tenant_id: str, before: tuple[datetime, int, int] | None, limit: int
    ) -> list[StoredException]:
        """Return conflicts and rejections, newest first, behind the one at `before` (received, batch id, ordinal)."""

    async def counts(self, tenant_id: str) -> EventCounts: ...
