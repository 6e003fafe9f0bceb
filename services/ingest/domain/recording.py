"""What becomes of the events of queued batches: pure steps between the statements of the recorder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import repeat
from typing import TypeVar

import orjson

from libs.errors import Violation
from libs.money import plain
from services.ingest.domain.aggregations import Operation
from services.ingest.domain.batch_digest import leaf_content
from services.ingest.domain.measuring import Measurement, measure
from services.ingest.domain.merkle import leaf_hash, root
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_versions import counting
from services.ingest.domain.usage_batch import UsageBatch

T = TypeVar("T")

_SEPARATOR = "\x1f"
"""No id contains a control character."""

OTHER_CONTENT = Violation("event_id", "OTHER_CONTENT", "an event with this id and other content was recorded before")


POSITIONS_PER_BATCH = 1_024
"""More than a batch has events; stored with the latest values of windows: never changes."""


class Fate(StrEnum):
    """What became of an accepted event; exactly one of them. Those not RECORDED do not count."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class EventException:
    """An event that was not simply recorded. `ordinal` is its index in the batch; duplicates have no problem."""

    ordinal: int
    fate: Fate
    problem: Violation | None


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The fates of a batch: all its events were recorded except those in `exceptions` (ordered by ordinal)."""

    tenant_id: str
    acceptor_epoch: str
    batch_number: int
    exceptions: Sequence[EventException]


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """Keys of events as parallel lists; `slots` are indexes into the list of batches that they were made from."""

    slots: list[int]
    ordinals: list[int]
    sources: list[str]
    event_ids: list[str]
    payload_hashes: list[bytes]

    def __len__(self) -> int:
        return len(self.event_ids)


@dataclass(slots=True)
class RecordingBatch:
    """A batch that is being recorded for the first time, under its new `batch_id`."""

    batch: UsageBatch
    batch_id: int
    measurement: Measurement
    payload_hashes: list[bytes]
    recorded: set[int] = field(default_factory=set)
    exceptions: list[EventException] = field(default_factory=list)
    voided: set[int] = field(default_factory=set)
    """Recorded events that were voided before they arrived: in the log, and in no window."""
    texts: list[str] | None = None
    """The answer of `measured_texts`, which the log and the digest both need."""

    @classmethod
    def start(cls, batch: UsageBatch, batch_id: int, meters: Sequence[Meter]) -> RecordingBatch:
        """Measure the batch. Meters may be newer than what the door checked, so events may have problems."""
        measurement = measure(batch.events, counting(meters, batch.received_at))
        return cls(batch, batch_id, measurement, batch.events.payload_hashes())

    def decide(self, inserted: set[int], stored_hashes: Mapping[int, bytes]) -> None:
        """Settle the fate of each event, given which keys were inserted and the stored hashes of the others' keys.

        What was recorded before stays a duplicate, even if it would be rejected by today's meters.
        """
        self.recorded = inserted
        if len(inserted) == len(self.payload_hashes):
            return
        for ordinal in range(len(self.payload_hashes)):
            if ordinal in inserted:
                continue
            stored = stored_hashes.get(ordinal)
            problem = self.measurement.problems.get(ordinal)
            if stored == self.payload_hashes[ordinal]:
                self.exceptions.append(EventException(ordinal, Fate.DUPLICATE, None))
            elif problem is not None:
                self.exceptions.append(EventException(ordinal, Fate.REJECTED, problem))
            else:
                self.exceptions.append(EventException(ordinal, Fate.CONFLICT, OTHER_CONTENT))

    @property
    def effective(self) -> set[int]:
        """The recorded events that count."""
        return self.recorded - self.voided if self.voided else self.recorded

    @property
    def outcome(self) -> BatchOutcome:
        batch = self.batch
        return BatchOutcome(batch.tenant_id, batch.acceptor_epoch, batch.batch_number, self.exceptions)

    def positions(self) -> range:
        """The place of each event in the order of recording; unlike any other's, and the same whenever it is asked."""
        first = self.batch_id * POSITIONS_PER_BATCH
        return range(first, first + len(self.payload_hashes))

    def count(self, fate: Fate) -> int:
        """How many events met a fate."""
        if fate is Fate.RECORDED:
            return len(self.recorded)
        return sum(item.fate is fate for item in self.exceptions)

    def measured_texts(self) -> list[str]:
        """Per event, recorded or not, what each meter measured, as a JSON object: decimal strings, or of unique counts
        the text after `+` where it was added and `-` where it was removed. Keys are sorted: digests cover it."""
        if self.texts is None:
            self.texts = self._measured_texts()
        return self.texts

    def _measured_texts(self) -> list[str]:
        columns = []
        for reading in sorted(self.measurement.readings, key=lambda reading: reading.meter.meter_id):
            before = orjson.dumps(reading.meter.meter_id).decode() + ":"
            if reading.texts:
                column = [before + text for text in _changes_of_set(reading.texts, reading.operations)]
            else:
                column = [f'{before}"{text}"' for text in map(plain, reading.values)]
            if len(column) < len(self.payload_hashes):
                by_row = dict(zip(reading.rows, column, strict=True))
                column = [by_row.get(row, "") for row in range(len(self.payload_hashes))]
            columns.append(column)
        if not columns:
            return ["{}"] * len(self.payload_hashes)
        return ["{" + ",".join(filter(None, parts)) + "}" for parts in zip(*columns, strict=True)]

    def digest(self) -> bytes:
        """The root of the tree over the recorded events by ordinal: see `batch_digest`, of version MERKLE."""
        events, hashes, measured = self.batch.events, self.payload_hashes, self.measured_texts()
        sources, ids = events.sources, events.event_ids
        return root(
            [
                leaf_hash(leaf_content(row, sources[row], ids[row], hashes[row], measured[row]))
                for row in sorted(self.recorded)
            ]
        )

    @property
    def oldest_ns(self) -> int | None:
        """The earliest event time recorded; None if no event was."""
        times = self.batch.events.times_ns
        return min(of_rows(times, list(self.recorded))) if self.recorded else None


def _changes_of_set(texts: Sequence[str], operations: Sequence[Operation]) -> Iterable[str]:
    """As JSON strings."""
    for text, operation in zip(texts, operations, strict=True):
        yield orjson.dumps(("+" if operation is Operation.ADD else "-") + text).decode()


def of_rows(column: Sequence[T], rows: Sequence[int]) -> Iterable[T]:
    """The values of some rows, which as a rule are all."""
    return column if len(rows) == len(column) else map(column.__getitem__, rows)


def candidate_keys(batches: Sequence[RecordingBatch]) -> KeyColumns:
    """The keys of all events without a problem, ordered by key, in stream order where keys are equal."""
    tenants: list[str] = []
    found = KeyColumns([], [], [], [], [])
    for slot, item in enumerate(batches):
        events, problems = item.batch.events, item.measurement.problems
        rows = [row for row in range(len(events)) if row not in problems] if problems else range(len(events))
        tenants.extend(repeat(item.batch.tenant_id, len(rows)))
        found.slots.extend(repeat(slot, len(rows)))
        found.ordinals.extend(rows)
        found.sources.extend(of_rows(events.sources, rows))
        found.event_ids.extend(of_rows(events.event_ids, rows))
        found.payload_hashes.extend(of_rows(item.payload_hashes, rows))
    # Texts compare faster than tuples of texts.
    keys = list(map(_SEPARATOR.join, zip(tenants, found.sources, found.event_ids, strict=True)))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return KeyColumns(
        slots=[found.slots[index] for index in order],
        ordinals=[found.ordinals[index] for index in order],
        sources=[found.sources[index] for index in order],
        event_ids=[found.event_ids[index] for index in order],
        payload_hashes=[found.payload_hashes[index] for index in order],
    )
