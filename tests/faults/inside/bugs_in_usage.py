"""Planted bugs on the way of a usage event: acceptor, recorder, keeper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import asyncpg

from libs.clock import system_clock
from libs.errors import Violation
from libs.messaging import Delivery
from tests.faults.inside.bugs_in_transport import Active
from tests.faults.inside.seams import module

_ANSWER_FIRST_S = 0.05
_OTHER_NUMBERS = 1_000_000


def answer_before_stored(active: Active) -> None:
    """The acceptor answers before the queue has the batch: a crash loses what was acknowledged (guarantee 1)."""
    from services.ingest.messaging.batch_queue import StreamBatchQueue
    from services.ingest.usecases.ports import OutgoingBatch

    publish = StreamBatchQueue.publish
    under_way: set[asyncio.Task[None]] = set()

    async def later(self: StreamBatchQueue, batch: OutgoingBatch) -> None:
        await asyncio.sleep(_ANSWER_FIRST_S)
        await publish(self, batch)

    async def wrong(self: StreamBatchQueue, batch: OutgoingBatch) -> None:
        if not active():
            return await publish(self, batch)
        task = asyncio.create_task(later(self, batch))
        under_way.add(task)
        return task.add_done_callback(under_way.discard)

    StreamBatchQueue.publish = wrong  # type: ignore[method-assign]


def recorded_told_too_soon(active: Active) -> None:
    """The acceptor says RECORDED without having heard from the recorder: what was a duplicate is called recorded a
    second time (each event has one fate)."""
    from services.ingest.domain.recording import Fate
    from services.ingest.usecases.tenant_lanes import Stored

    accept_usage = module("services.ingest.usecases.accept_usage")
    add_outcome = accept_usage._add_outcome

    async def wrong(
        stored: Stored,
        accepted: Sequence[int],
        fates: list[Fate | None],
        problems: dict[int, Violation],
        time_left_s: float,
    ) -> None:
        if not active() or stored.outcome is None:
            return await add_outcome(stored, accepted, fates, problems, time_left_s)  # type: ignore[no-any-return]
        for index in accepted:
            fates[index] = Fate.RECORDED
        return None

    accept_usage._add_outcome = wrong


def no_batch_row(active: Active) -> None:
    """A batch that is known is recorded anew: a redelivery calls its own events duplicates, and the equation of fates
    no longer holds (guarantee 3)."""
    from services.ingest.domain.usage_batch import UsageBatch
    from services.ingest.store.recording import PostgresRecordingStore

    add_batches = PostgresRecordingStore.add_batches
    added = 0

    async def wrong(self: PostgresRecordingStore, batches: Sequence[UsageBatch]) -> Mapping[int, int]:
        nonlocal added
        new = dict(await add_batches(self, batches))
        for index in range(len(batches)) if active() else ():
            if index not in new:
                added += 1
                number = batches[index].batch_number + added * _OTHER_NUMBERS
                (new[index],) = (await add_batches(self, [replace(batches[index], batch_number=number)])).values()
        return new

    PostgresRecordingStore.add_batches = wrong  # type: ignore[method-assign]


def sequence_as_id(active: Active) -> None:
    """A batch is known by its place in the stream, not by what its acceptor called it: the same batch in two places
    (after the duplicate window, or in a stream made anew) counts as two (guarantee 3)."""
    usage_recorder = module("services.ingest.messaging.usage_recorder")
    from services.ingest.usecases.ports import QueuedBatch

    read = usage_recorder._batch

    def wrong(delivery: Delivery) -> tuple[QueuedBatch, str]:
        queued, reply = read(delivery)
        if active():
            queued = replace(queued, batch=replace(queued.batch, batch_number=delivery.stream_seq))
        return queued, reply

    usage_recorder._batch = wrong


def duplicates_counted(active: Active) -> None:
    """Windows add up every event of a batch, not only the newly recorded ones (guarantee 2)."""
    from services.ingest.domain.recording import RecordingBatch
    from services.ingest.domain.usage_windows import WindowChange

    record_usage = module("services.ingest.usecases.record_usage")
    window_changes = record_usage.window_changes

    def wrong(recording: Sequence[RecordingBatch]) -> dict[str, Sequence[WindowChange]]:
        if not active():
            return window_changes(recording)  # type: ignore[no-any-return]
        recorded = [item.recorded for item in recording]
        for item in recording:
            item.recorded = set(range(len(item.payload_hashes)))
        try:
            return window_changes(recording)  # type: ignore[no-any-return]
        finally:
            for item, before in zip(recording, recorded, strict=True):
                item.recorded = before

    record_usage.window_changes = wrong


def watermark_from_clock(active: Active) -> None:
    """The watermark is what the keeper's clock says: events acknowledged before it are still in the queue, and an
    invoice may be issued without them (guarantee 1 for invoices)."""
    keeper = module("services.ingest.store.keeper")
    from services.ingest.usecases.ports import QueueFloor

    advance = keeper.PostgresKeeper._advance

    async def wrong(self: object, driver: asyncpg.Connection, queue: QueueFloor, floor: object) -> tuple[object, int]:
        if active():
            return keeper._Floor(queue.last_seq, system_clock()), 0
        reached: tuple[object, int] = await advance(self, driver, queue, floor)
        return reached

    keeper.PostgresKeeper._advance = wrong


BUGS: dict[str, tuple[tuple[str, ...], Callable[[Active], None]]] = {
    bug.__name__: (("ingest",), bug)
    for bug in (
        answer_before_stored,
        recorded_told_too_soon,
        no_batch_row,
        sequence_as_id,
        duplicates_counted,
        watermark_from_clock,
    )
}
