"""What batches tell of their sources: which of their numbers came, and when they were last heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from services.ingest.domain.usage_batch import MAX_SEQUENCE, UsageBatch

MAX_RUNS = 1_000
"""So many runs of numbers are kept of a source and epoch; whoever has more does not number without gaps."""

Run = tuple[int, int]
"""First and last of consecutive numbers."""


@dataclass(frozen=True, slots=True)
class NumbersArrived:
    """The numbers of one source and epoch that came, as runs in order that neither overlap nor touch.

    If there were more than MAX_RUNS it `is_ragged`, and its only run reaches from the first to the last number.
    """

    tenant_id: str
    source: str
    sequence_epoch: str
    runs: Sequence[Run]
    is_ragged: bool
    received_at: datetime

    def text(self) -> str:
        """As PostgreSQL writes a multirange."""
        return "{" + ",".join(f"[{first},{last}]" for first, last in self.runs) + "}"


@dataclass(frozen=True, slots=True)
class SourceHeard:
    """A source sent; `heard_at` on the tenant's clock, `received_at` in real time."""

    tenant_id: str
    source: str
    heard_at: datetime
    received_at: datetime


def runs_of(numbers: Iterable[int]) -> list[Run]:
    """Put numbers, in any order and however often, together to runs."""
    runs: list[Run] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def numbers_arrived(batches: Sequence[UsageBatch]) -> list[NumbersArrived]:
    """The numbers in the batches, ordered by tenant, source and epoch.

    Whatever the fate of an event, its number has come: that it was refused is known, and reported elsewhere.
    """
    numbers: dict[tuple[str, str, str], set[int]] = {}
    received: dict[tuple[str, str, str], datetime] = {}
    for batch in batches:
        for source, epoch, number in _numbered(batch):
            if number and source and number <= MAX_SEQUENCE:
                key = batch.tenant_id, source, epoch
                numbers.setdefault(key, set()).add(number)
                received[key] = max(received.get(key, batch.received_at), batch.received_at)
    return [_arrived(key, runs_of(numbers[key]), received[key]) for key in sorted(numbers)]


def sources_heard(batches: Sequence[UsageBatch]) -> list[SourceHeard]:
    """When each source was last heard, ordered by tenant and source."""
    heard: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for batch in batches:
        for source in set(batch.events.sources):
            key = batch.tenant_id, source
            before = heard.get(key, (batch.accepted_at, batch.received_at))
            heard[key] = max(before[0], batch.accepted_at), max(before[1], batch.received_at)
    return [SourceHeard(*key, *heard[key]) for key in sorted(heard)]


def _numbered(batch: UsageBatch) -> Iterable[tuple[str, str, int]]:
    events = batch.events
    accepted: Iterable[tuple[str, str, int]] = ()
    if events.sequences:
        accepted = zip(events.sources, events.sequence_epochs, events.sequences, strict=True)
    refused = [(event.source, event.sequence_epoch, event.sequence) for event in batch.rejected if event.sequence > 0]
    return chain(accepted, refused)


def _arrived(key: tuple[str, str, str], runs: list[Run], received_at: datetime) -> NumbersArrived:
    is_ragged = len(runs) > MAX_RUNS
    return NumbersArrived(*key, [(runs[0][0], runs[-1][1])] if is_ragged else runs, is_ragged, received_at)
