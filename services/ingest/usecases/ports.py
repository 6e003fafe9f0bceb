"""What the use cases need of the outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from libs.errors import Violation
from services.ingest.domain.door import DoorPolicy
from services.ingest.domain.meter import Meter
from services.ingest.domain.recording import BatchOutcome, KeyColumns, RecordingBatch
from services.ingest.domain.usage_batch import EventMessage, UsageBatch
from services.ingest.domain.usage_windows import WindowChange


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where a message lies in one incarnation of the stream."""

    stream_epoch: datetime
    stream_seq: int


@dataclass(frozen=True, slots=True)
class QueuedBatch:
    """A batch as it came from the queue."""

    batch: UsageBatch
    position: StreamPosition


@dataclass(frozen=True, slots=True)
class QueuedMarker:
    """A watermark marker as it came from the queue; `marked_at` is real time, read before it was published."""

    marker_id: str
    marked_at: datetime
    position: StreamPosition


class RecordingStore(Protocol):
    """The recorder's statements in one transaction. Each is set-wise and locks in the order of keys."""

    async def add_batches(self, batches: Sequence[UsageBatch]) -> Mapping[int, int]:
        """Add batches; return the new id per index of those that were not known. Known ones change nothing.

        Until the commit no event of these tenants can be voided that is not recorded yet.
        """

    async def meters(self, tenant_ids: Sequence[str]) -> Mapping[str, Sequence[Meter]]:
        """Return the meters of each tenant, archived ones too; none is archived until this transaction ends."""

    async def add_keys(self, batches: Sequence[RecordingBatch], keys: KeyColumns) -> set[tuple[int, int]] | None:
        """Add the keys of events; return (batch id, ordinal) of those that were new, or None if all were."""

    async def stored_hashes(
        self, batches: Sequence[RecordingBatch], rows: Sequence[tuple[int, int]]
    ) -> list[bytes | None]:
        """Return the payload hash stored under the key of each (index of batch, ordinal), None if there is none."""

    async def take_waiting_voids(self, batches: Sequence[RecordingBatch]) -> None:
        """Note which recorded events were voided before they arrived, so that they are counted nowhere."""

    async def add_events(self, batches: Sequence[RecordingBatch]) -> None:
        """Add the recorded events to the log."""

    async def add_outcomes(self, batches: Sequence[RecordingBatch]) -> None:
        """Add results and exceptions of the batches."""

    async def add_arrivals(self, batches: Sequence[RecordingBatch], now: datetime) -> None:
        """Note which numbers of sources came, and when watched sources were heard."""

    async def add_counts(self, batches: Sequence[RecordingBatch]) -> None:
        """Add to the counts of duplicates, customers and acceptors, which recorders share."""

    async def add_windows(self, changes: Mapping[str, Sequence[WindowChange]], now: datetime) -> None:
        """Add to the windows of each tenant and mark them for publication."""

    async def stored_outcomes(self, batches: Sequence[UsageBatch]) -> list[BatchOutcome]:
        """Return what became of batches that are recorded."""

    async def add_positions(self, batches: Sequence[QueuedBatch], markers: Sequence[QueuedMarker]) -> None:
        """Note where the messages lay in the stream, and which numbers their acceptors abandoned."""


class RecordingTransactions(Protocol):
    """Opens the transaction of a chunk; it commits at exit."""

    def __call__(self, tenant_ids: Sequence[str]) -> AbstractAsyncContextManager[RecordingStore]: ...

    async def ensure_partitions(self, received_at: Sequence[datetime]) -> None:
        """Make sure that the log has room for events received at these instants; commits by itself."""


@dataclass(frozen=True, slots=True)
class AcceptanceRules:
    """What the door goes by for one tenant; `tenant_now` is the instant on the tenant's clock."""

    policy: DoorPolicy
    meters: Sequence[Meter]
    tenant_now: datetime


class TenantRules(Protocol):
    """Knows the tenants from the directory; answers from memory."""

    def rules(self, tenant_id: str) -> AcceptanceRules: ...


@dataclass(frozen=True, slots=True)
class OutgoingBatch:
    """A batch on its way into the queue. `events` are the producer's messages as they are on the wire: serialised
    UsageEvents; `contexts` are the trace contexts of the calls that brought them."""

    tenant_id: str
    number: int
    received_at: datetime
    accepted_at: datetime
    events: Sequence[bytes]
    rejected_events: Sequence[tuple[EventMessage, Violation]]
    wants_reply: bool
    accepted_total: int
    rejected_total: int
    abandoned_numbers: Sequence[int]
    contexts: Sequence[object]


class BatchQueue(Protocol):
    """The durable queue before the recorder."""

    async def publish(self, batch: OutgoingBatch) -> None:
        """Return when the batch is on disk; the same batch may be published again and is stored once.

        :raises OutcomeUnknown: if it may be stored or not
        :raises Overloaded: if the queue is full; it is not stored
        """


class RecordedReplies(Protocol):
    """Hears from recorders what became of batches."""

    def expect(self, tenant_id: str, number: int) -> asyncio.Future[BatchOutcome]:
        """Return a future of the outcome, which may never come; to be called before the batch is published."""


@dataclass(frozen=True, slots=True)
class QueueFloor:
    """How far the recorders have come in one incarnation of the stream."""

    stream_epoch: datetime
    acked_through: int
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a watermark does not hold for one tenant."""

    tenant_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeeperReport:
    """What a look at the queue has found. `watermark` is None until there is one; `unaccounted` messages were passed
    by the consumer but nobody recorded them; `purge_below` is the first sequence that has to stay; `queue_is_lost`
    until somebody has said that what the queue lost was sent again, and there is no watermark meanwhile."""

    watermark: datetime | None
    newest_marker: datetime | None
    holds: Sequence[Hold]
    unaccounted: int
    purge_below: int
    queue_is_lost: bool
