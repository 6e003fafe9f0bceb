"""What becomes of the events of queued batches: pure steps between the statements of the recorder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

import orjson

from libs.errors import Violation
from libs.money import plain
from services.ingest.domain.measuring import Measurement, measure
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_batch import UsageBatch

# The same small numbers come again and again; equal numbers have equal text.
_plain = lru_cache(maxsize=1 << 16)(plain)

OTHER_CONTENT = Violation("event_id", "OTHER_CONTENT", "an event with this id and other content was recorded before")


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

    @classmethod
    def start(cls, batch: UsageBatch, batch_id: int, meters: Sequence[Meter]) -> RecordingBatch:
        """Measure the batch. Meters may be newer than what the door checked, so events may have problems."""
        return cls(batch, batch_id, measure(batch.events, meters), batch.events.payload_hashes())

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
    def outcome(self) -> BatchOutcome:
        batch = self.batch
        return BatchOutcome(batch.tenant_id, batch.acceptor_epoch, batch.batch_number, self.exceptions)

    def count(self, fate: Fate) -> int:
        """How many events met a fate."""
        if fate is Fate.RECORDED:
            return len(self.recorded)
        return sum(item.fate is fate for item in self.exceptions)

    def measured_texts(self) -> list[str]:
        """Per event, recorded or not, what each meter measured, as a JSON object of decimal strings."""
        measured: list[dict[str, str]] = [{} for _ in self.payload_hashes]
        for reading in self.measurement.readings:
            meter_id = reading.meter.meter_id
            for row, value in zip(reading.rows, reading.values, strict=True):
                measured[row][meter_id] = _plain(value)
        return [orjson.dumps(values).decode() if values else "{}" for values in measured]

    def digest(self) -> bytes:
        """BLAKE2b-256 over (source, event id, payload hash) of the recorded events by ordinal."""
        events = self.batch.events
        content = hashlib.blake2b(digest_size=32)
        for row in sorted(self.recorded):
            content.update(orjson.dumps((events.sources[row], events.event_ids[row])))
            content.update(self.payload_hashes[row])
        return content.digest()


def candidate_keys(batches: Sequence[RecordingBatch]) -> KeyColumns:
    """The keys of all events without a problem, ordered by key, in stream order where keys are equal."""
    keys = []
    for slot, item in enumerate(batches):
        tenant_id, events, problems = item.batch.tenant_id, item.batch.events, item.measurement.problems
        columns = zip(events.sources, events.event_ids, range(len(events)), item.payload_hashes, strict=True)
        keys += [
            (tenant_id, source, event_id, slot, row, payload_hash)
            for source, event_id, row, payload_hash in columns
            if row not in problems
        ]
    keys.sort()
    return KeyColumns(
        slots=[key[3] for key in keys],
        ordinals=[key[4] for key in keys],
        sources=[key[1] for key in keys],
        event_ids=[key[2] for key in keys],
        payload_hashes=[key[5] for key in keys],
    )
