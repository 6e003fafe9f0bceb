"""Check the equations that have to hold inside ingest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from libs.money import plain
from libs.periods import Period
from services.ingest.domain.stored_event import EventCounts

MAX_DIFFERENCES = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which two sides disagree; a side is empty if the thing is missing there."""

    subject: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Check:
    """An equation with both sides as they were found."""

    name: str
    left: Decimal
    right: Decimal
    differences: Sequence[Difference]

    @property
    def holds(self) -> bool:
        return self.left == self.right and not self.differences


@dataclass(frozen=True, slots=True)
class StoredTotals:
    """What the rows themselves add up to: the log, the results of batches, the refusals at the door, and the events,
    accepted and refused at the door, of batches that the queue lost and people have given up."""

    events: int
    recorded: int
    rejected_at_door: int
    written_off: int
    rejected_written_off: int


@dataclass(frozen=True, slots=True)
class WindowTotals:
    """Windows and log of some time, over all meters: sums of values, of event counts, and where they differ."""

    windows_value: Decimal
    log_value: Decimal
    windows_events: int
    log_events: int
    differences: Sequence[Difference]


class ReconciliationStore(Protocol):
    async def read(self, tenant_id: str, period: Period | None) -> tuple[EventCounts, StoredTotals, WindowTotals]:
        """Read all sides at one moment; `period` (None: all) restricts windows and log by the time of events."""


class Reconcile:
    """Compares; changes nothing."""

    def __init__(self, store: ReconciliationStore) -> None:
        self._store = store

    async def __call__(self, tenant_id: str, period: Period | None) -> list[Check]:
        """Return every check, also those that hold. While batches are under way the first two may be off by them: they
        are recorded side by side, and a later one tells what there was before it."""
        counts, stored, windows = await self._store.read(tenant_id, period)
        fates = counts.recorded + counts.duplicate + counts.conflict + counts.rejected_by_recorder
        return [
            _check(
                "accepted = recorded + duplicate + conflict + rejected + written off",
                counts.accepted,
                fates + stored.written_off,
            ),
            _check(
                "rejected at the door = refusals stored + written off",
                counts.rejected_at_door,
                stored.rejected_at_door + stored.rejected_written_off,
            ),
            _check("recorded = results of batches", counts.recorded, stored.recorded),
            _check("recorded = events in the log", counts.recorded, stored.events),
            Check("values of windows = log", windows.windows_value, windows.log_value, windows.differences),
            _check("events of windows = log", windows.windows_events, windows.log_events),
        ]


def _check(name: str, left: int, right: int) -> Check:
    return Check(name, Decimal(left), Decimal(right), ())


def side(value: Decimal | None, events: int | None) -> str:
    """One side of a difference for people, empty if it is missing."""
    return "" if value is None else f"{plain(value)} of {events} events"
