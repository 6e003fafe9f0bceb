"""Record queued batches: many of them in one transaction, set-wise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.clock import Clock
from services.ingest.domain.recording import BatchOutcome, Fate, RecordingBatch, candidate_keys
from services.ingest.domain.usage_batch import UsageBatch
from services.ingest.domain.usage_windows import WindowChange, WindowSums
from services.ingest.usecases.ports import QueuedBatch, QueuedMarker, RecordingStore, RecordingTransactions


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """What a transaction did: the outcome of each batch in order, and how many events newly met each fate."""

    outcomes: Sequence[BatchOutcome]
    fates: Mapping[Fate, int]


class RecordUsage:
    """Gives every event of every batch its one fate.

    A batch whose id is known changes nothing: its stored outcome is answered, so a redelivery never calls its own
    events duplicates. Only events whose key is new add to windows.
    """

    def __init__(self, transactions: RecordingTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def __call__(self, queued: Sequence[QueuedBatch], markers: Sequence[QueuedMarker] = ()) -> ChunkReport:
        """Record a chunk and commit; afterwards every outcome holds."""
        batches = [item.batch for item in queued]
        await self._transactions.ensure_partitions([batch.received_at for batch in batches])
        async with self._transactions(sorted({batch.tenant_id for batch in batches})) as store:
            recording = await self._start(store, batches)
            new = list(recording.values())
            await settle_fates(store, new)
            await store.take_waiting_voids(new)
            await store.add_events(new)
            await store.add_outcomes(new)
            await store.add_positions(queued, markers)
            outcomes = await self._outcomes(store, batches, recording)
            changes = window_changes(new)
            await store.add_arrivals(new, self._clock())
            # Last, because recorders share these rows: whoever has changed them holds up the others until the commit.
            await store.add_counts(new)
            await store.add_windows(changes, self._clock())
        fates = {fate: sum(item.count(fate) for item in recording.values()) for fate in Fate}
        return ChunkReport(outcomes, fates)

    async def _start(self, store: RecordingStore, batches: Sequence[UsageBatch]) -> dict[int, RecordingBatch]:
        """Return the new batches by index, in stream order."""
        new_ids = await store.add_batches(batches)
        meters = await store.meters(sorted({batches[index].tenant_id for index in new_ids}))
        return {
            index: RecordingBatch.start(batches[index], new_ids[index], meters.get(batches[index].tenant_id, ()))
            for index in sorted(new_ids)
        }

    async def _outcomes(
        self, store: RecordingStore, batches: Sequence[UsageBatch], recording: Mapping[int, RecordingBatch]
    ) -> list[BatchOutcome]:
        known = [index for index in range(len(batches)) if index not in recording]
        stored = dict(zip(known, await store.stored_outcomes([batches[index] for index in known]), strict=True))
        return [recording[index].outcome if index in recording else stored[index] for index in range(len(batches))]


async def settle_fates(store: RecordingStore, recording: Sequence[RecordingBatch]) -> None:
    """Add the keys of the events, which says of each one what becomes of it."""
    keys = candidate_keys(recording)
    inserted = await store.add_keys(recording, keys)
    if inserted is None:
        rows = [set(range(len(item.payload_hashes))) - item.measurement.problems.keys() for item in recording]
    else:
        by_id: dict[int, set[int]] = {item.batch_id: set() for item in recording}
        for batch_id, ordinal in inserted:
            by_id[batch_id].add(ordinal)
        rows = list(by_id.values())
    others = [
        (index, ordinal)
        for index, item in enumerate(recording)
        if len(rows[index]) < len(item.payload_hashes)
        for ordinal in range(len(item.payload_hashes))
        if ordinal not in rows[index]
    ]
    stored: list[dict[int, bytes]] = [{} for _ in recording]
    for (index, ordinal), found in zip(others, await store.stored_hashes(recording, others), strict=True):
        if found is not None:
            stored[index][ordinal] = found
    for item, recorded, known in zip(recording, rows, stored, strict=True):
        item.decide(recorded, known)


def window_changes(recording: Sequence[RecordingBatch]) -> dict[str, Sequence[WindowChange]]:
    """What the newly recorded events add to windows, by tenant."""
    sums: dict[str, WindowSums] = {}
    for item in recording:
        batch = item.batch
        tenant = sums.setdefault(batch.tenant_id, WindowSums())
        tenant.add(batch.events, item.measurement.readings, item.effective, batch.trace_parent, item.positions())
    return {tenant_id: tenant.changes() for tenant_id, tenant in sorted(sums.items())}
