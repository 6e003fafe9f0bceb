"""What carrying out replays needs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.ingest.domain.meter import Meter
from services.ingest.domain.replays import LaterReading, LoggedEvents, Replay, ReplayScope

QueuedReplay = tuple[str, str]
"""Tenant and replay."""
WindowPosition = tuple[str, str, str, int]
"""Meter, customer, start of a window in ISO 8601, number of the window in the replay."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some of the log in the order of event times; `position` of its last event, None if it is the last page."""

    logged: LoggedEvents
    position: tuple[int, int, int] | None
    events: int


@dataclass(frozen=True, slots=True)
class ComparedSlice:
    """What a comparison has found in [start, `next_ns`); None if there is nothing behind it."""

    next_ns: int | None
    events: int
    windows: int
    differing: int


@dataclass(frozen=True, slots=True)
class SwappedPortion:
    """`position` of the last window that was swapped; None if none was left."""

    position: WindowPosition | None
    windows: int


class ReplayChanged(Exception):
    """Somebody has decided otherwise about the replay while a step was being taken; the step did not happen."""


class ReplayStep(Protocol):
    """One transaction of a replay's tenant, with the replay kept from other workers. It commits at exit."""

    replay: Replay

    async def meters(self, scope: ReplayScope) -> Sequence[Meter]:
        """Return the meters of the scope, archived ones too."""

    async def count(self, scope: ReplayScope) -> int:
        """Return how many events are in the scope, of any type."""

    async def wait_for_recorders(self) -> None:
        """Return when all recorders that may not know the newest meters have committed; others wait meanwhile."""

    async def page(self, scope: ReplayScope, meters: Sequence[Meter], after: tuple[int, int, int] | None) -> LogPage:
        """Return events behind a place of the log, of those that the meters may measure with all that they have."""

    async def keep(self, logged: LoggedEvents, readings: Sequence[LaterReading]) -> int:
        """Keep readings aside until the swap; return how many."""

    async def compare(
        self, scope: ReplayScope, meters: Sequence[Meter], start_ns: int, *, with_kept: bool
    ) -> ComparedSlice:
        """Note the windows of a time that differ from the log, both seen at one moment; `with_kept`: from the log as it
        would be with the readings that are kept."""

    async def swap(self, meters: Sequence[Meter], after: WindowPosition | None, now: datetime) -> SwappedPortion:
        """Make the next windows that were noted what the log now gives, under their locks."""

    async def forget(self) -> bool:
        """Delete some of the readings that are kept, and of the differences of old replays; return whether any may be
        left."""

    async def save(self, replay: Replay) -> None:
        """Store state and progress; the last change of a step, for it keeps people from deciding meanwhile.

        :raises ReplayChanged: if somebody has
        """

    async def rest(self, until: datetime) -> None:
        """Stand behind others, and let nobody take the next step before that time."""

    async def leave(self) -> None:
        """Take the replay out of the queue: nothing is to be done until a person says so."""


class ReplayQueue(Protocol):
    async def due(self, now: datetime) -> Sequence[QueuedReplay]:
        """Return replays to go on with, the one that waits longest first."""

    def step(self, queued: QueuedReplay) -> AbstractAsyncContextManager[ReplayStep | None]:
        """Open the transaction of a step; None if another worker has the replay, or it is no longer queued."""

    async def note_failure(
        self, queued: QueuedReplay, failure: str, now: datetime, again_at: datetime, max_attempts: int
    ) -> None:
        """Put the replay off; after so many attempts it has failed."""
