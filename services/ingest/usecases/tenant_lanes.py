"""One lane per tenant into the queue: one message at a time, and what comes meanwhile shares the next one.

Numbers are assigned when a message is made and the next one is made only when the fate of this one is known. A number
that was stored therefore never stands above one that was lost: a gap means that the queue lost something.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import count

from libs.clock import Clock
from libs.errors import ServiceError, Violation
from services.ingest.domain.recording import BatchOutcome
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventMessage
from services.ingest.usecases.errors import OutcomeUnknown, Overloaded, QueueUnavailable
from services.ingest.usecases.ports import BatchQueue, OutgoingBatch, RecordedReplies

_logger = logging.getLogger(__name__)

_RETRY_AFTER_S = Decimal("0.5")
_SEND_AGAIN_S = 0.1
_LONGEST_PAUSE_S = 2.0
_SHARE_OF_ONE_TENANT = 4
"""One tenant may fill a quarter of the room: the others' usage still gets in."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the accepted events of a call are: from `first_ordinal` on in a batch; `outcome` if it was asked for."""

    number: int
    first_ordinal: int
    outcome: asyncio.Future[BatchOutcome] | None


@dataclass(frozen=True, slots=True, eq=False)
class PendingCall:
    """What one call wants to have in the queue, `events` serialised; `stored` is resolved when it is there."""

    events: Sequence[bytes]
    rejected_events: Sequence[tuple[EventMessage, Violation]]
    size_bytes: int
    accepted_at: datetime
    wants_outcome: bool
    context: object
    stored: asyncio.Future[Stored]

    def __len__(self) -> int:
        return len(self.events) + len(self.rejected_events)


@dataclass(slots=True)
class _Lane:
    calls: deque[PendingCall] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    blocked: bool = False  # A message is being retried whose fate is unknown.
    pending_bytes: int = 0
    number: int = 0
    accepted_total: int = 0
    rejected_total: int = 0
    abandoned: list[int] = field(default_factory=list)


class TenantLanes:
    """Takes calls, coalesces those of one tenant for at most `coalesce_s`, and puts them into the queue."""

    def __init__(
        self,
        queue: BatchQueue,
        replies: RecordedReplies,
        clock: Clock,
        *,
        max_pending_bytes: int = 64 << 20,
        coalesce_s: float = 0.002,
        send_again_s: float = _SEND_AGAIN_S,
    ) -> None:
        self._queue = queue
        self._replies = replies
        self._clock = clock
        self._max_pending_bytes = max_pending_bytes
        self._coalesce_s = coalesce_s
        self._send_again_s = send_again_s
        self._pending_bytes = 0
        self._lanes: dict[str, _Lane] = {}

    async def put(self, tenant_id: str, call: PendingCall, patience_s: float) -> Stored:
        """Return when the call's events are on disk.

        :raises QueueUnavailable: if that is not known within `patience_s`
        :raises Overloaded: if too much waits already
        """
        lane = self._lanes.setdefault(tenant_id, _Lane())
        if lane.blocked:
            raise QueueUnavailable("the queue does not answer", retry_after_s=_RETRY_AFTER_S)
        self._hold(lane, call.size_bytes)
        lane.calls.append(call)
        if lane.task is None:
            lane.task = asyncio.create_task(self._run(tenant_id, lane), name=f"lane {tenant_id}")
        try:
            async with asyncio.timeout(patience_s):
                return await call.stored
        except TimeoutError as error:
            raise QueueUnavailable("the queue did not answer in time", retry_after_s=_RETRY_AFTER_S) from error

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything taken is on disk; what is not by then may or may not be."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            _logger.error("%d tenants had batches under way whose fate is unknown", len(late))

    def _hold(self, lane: _Lane, size_bytes: int) -> None:
        if lane.pending_bytes and lane.pending_bytes + size_bytes > self._max_pending_bytes // _SHARE_OF_ONE_TENANT:
            raise Overloaded("too many events of this tenant wait for the queue", retry_after_s=_RETRY_AFTER_S)
        if self._pending_bytes + size_bytes > self._max_pending_bytes:
            raise Overloaded("too many events wait for the queue", retry_after_s=_RETRY_AFTER_S)
        lane.pending_bytes += size_bytes
        self._pending_bytes += size_bytes

    def _release(self, lane: _Lane, size_bytes: int) -> None:
        lane.pending_bytes -= size_bytes
        self._pending_bytes -= size_bytes

    async def _run(self, tenant_id: str, lane: _Lane) -> None:
        try:
            while lane.calls:
                if len(lane.calls[0]) < MAX_BATCH_EVENTS:
                    await asyncio.sleep(self._coalesce_s)
                calls = self._take(lane)
                if calls:
                    await self._publish(tenant_id, lane, calls)
                    self._release(lane, sum(call.size_bytes for call in calls))
        finally:
            lane.task = None

    def _take(self, lane: _Lane) -> list[PendingCall]:
        """Take calls for one message, as many as fit, passing over those whose caller has gone."""
        taken: list[PendingCall] = []
        events, size_bytes = 0, 0
        while lane.calls:
            call = lane.calls[0]
            if call.stored.done():
                self._release(lane, lane.calls.popleft().size_bytes)
                continue
            events, size_bytes = events + len(call), size_bytes + call.size_bytes
            if taken and (events > MAX_BATCH_EVENTS or size_bytes > MAX_BATCH_BYTES):
                break
            taken.append(lane.calls.popleft())
        return taken

    async def _publish(self, tenant_id: str, lane: _Lane, calls: Sequence[PendingCall]) -> None:
        batch = self._batch(tenant_id, lane, calls)
        outcome = self._replies.expect(tenant_id, batch.number) if batch.wants_reply else None
        try:
            await self._publish_until_known(lane, batch, calls)
        except Exception as error:
            if not isinstance(error, ServiceError):
                _logger.exception("batch %d of %s cannot be published", batch.number, tenant_id)
            self._refuse(lane, batch, calls, error)
            return
        finally:
            lane.blocked = False
        lane.number, lane.abandoned = batch.number, []
        lane.accepted_total, lane.rejected_total = batch.accepted_total, batch.rejected_total
        ordinal = 0
        for call in calls:
            if not call.stored.done():
                call.stored.set_result(Stored(batch.number, ordinal, outcome if call.wants_outcome else None))
            ordinal += len(call.events)

    async def _publish_until_known(self, lane: _Lane, batch: OutgoingBatch, calls: Sequence[PendingCall]) -> None:
        """Return when the batch is stored. While that is unknown it is sent again, for nobody but the numbering.

        A queue that refuses it then says nothing about the attempts before: only when it is taken is its fate known.
        """
        for attempt in count():
            try:
                await self._queue.publish(batch)
                return
            except (OutcomeUnknown, Overloaded) as error:
                if isinstance(error, Overloaded) and not lane.blocked:
                    raise
                lane.blocked = True
                for call in (*calls, *lane.calls):
                    _fail(call, QueueUnavailable("the queue does not answer", retry_after_s=_RETRY_AFTER_S))
                _logger.warning("batch %d of %s is sent again: %s", batch.number, batch.tenant_id, error)
            # Some failures come at once, and go on coming.
            await asyncio.sleep(min(self._send_again_s * (1 << min(attempt, 10)), _LONGEST_PAUSE_S))

    def _batch(self, tenant_id: str, lane: _Lane, calls: Sequence[PendingCall]) -> OutgoingBatch:
        events = [event for call in calls for event in call.events]
        rejected = [item for call in calls for item in call.rejected_events]
        return OutgoingBatch(
            tenant_id=tenant_id,
            number=lane.number + 1,
            received_at=self._clock(),
            accepted_at=max(call.accepted_at for call in calls),
            events=events,
            rejected_events=rejected,
            wants_reply=any(call.wants_outcome for call in calls),
            accepted_total=lane.accepted_total + len(events),
            rejected_total=lane.rejected_total + len(rejected),
            abandoned_numbers=tuple(lane.abandoned),
            contexts=[call.context for call in calls],
        )

    def _refuse(self, lane: _Lane, batch: OutgoingBatch, calls: Sequence[PendingCall], error: Exception) -> None:
        if lane.blocked or not isinstance(error, Overloaded):
            # An earlier attempt may have stored it: the number is used up, and the next batch says so.
            lane.number = batch.number
            lane.abandoned.append(batch.number)
        for call in calls:
            _fail(call, error)


def _fail(call: PendingCall, error: Exception) -> None:
    if not call.stored.done():
        call.stored.set_exception(error)
