"""The keeper of the queue: markers into it, watermarks out of it, and what is recorded out of the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import nats.errors
from nats.js import JetStreamContext

from libs.clock import Clock
from libs.database import is_outage
from libs.errors import ServiceError
from libs.ids import uuid7
from libs.messaging import USAGE_RAW, Delivery, FloorBeyondStream, JetStreamPublisher, Park, ack_floor
from services.ingest import metrics
from services.ingest.messaging.usage_recorder import DURABLE, MARKER_SUBJECT, batch_of, tenant_of
from services.ingest.usecases.ports import Hold, KeeperReport, QueueFloor, StreamPosition
from services.ingest.wire.times import time_to_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import usage_raw_pb2

_logger = logging.getLogger(__name__)

_TICK_S = 0.25
_IDLE_MARKER_EVERY_S = 1.0
_PURGE_EVERY_S = 30.0
_MARKER_DEADLINE_S = 2.0
_AWAY_S = 1.0


class KeeperStore(Protocol):
    async def look(
        self, queue: QueueFloor, published: Sequence[StreamPosition], now: datetime
    ) -> KeeperReport | None: ...


class Keeper:
    """Runs in every recorder process. A look holds a lock, so that one keeper at a time decides; a marker more than
    needed, from another process, does no harm."""

    def __init__(
        self,
        js: JetStreamContext,
        publisher: JetStreamPublisher,
        store: KeeperStore,
        clock: Clock,
        *,
        on_watermark: Callable[[], None],
    ) -> None:
        self._js = js
        self._publisher = publisher
        self._store = store
        self._clock = clock
        self._on_watermark = on_watermark
        self._published: list[StreamPosition] = []
        self._marked_at: datetime | None = None
        self._marked_seq = 0
        self._watermark: datetime | None = None
        self._purge_at: datetime | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep until `stopping` is set. While NATS or PostgreSQL is away nothing is kept, and nothing is marked."""
        while not stopping.is_set():
            rest_s = _TICK_S
            try:
                await self.tick()
            except (nats.errors.Error, TimeoutError, ServiceError, FloorBeyondStream) as error:
                _logger.warning("the keeper waits: %r", error)
                rest_s = _AWAY_S
            except Exception as error:
                if not is_outage(error):
                    raise
                _logger.warning("the keeper waits for PostgreSQL: %r", error)
                rest_s = _AWAY_S
            try:
                await asyncio.wait_for(stopping.wait(), rest_s)
            except TimeoutError:
                continue

    async def tick(self) -> KeeperReport | None:
        """Look at the queue once, and mark it if it is time; return what was found."""
        floor = await ack_floor(self._js, USAGE_RAW.name, DURABLE)
        queue = QueueFloor(floor.stream_epoch, floor.consumer_stream_seq, floor.stream_first_seq, floor.stream_last_seq)
        now = self._clock()
        published, self._published = self._published, []
        report = await self._store.look(queue, published, now)
        if report is None:
            return None
        self._measure(report, now)
        if report.watermark is not None and report.watermark != self._watermark:
            self._watermark = report.watermark
            self._on_watermark()
        await self._mark(queue, report, now)
        await self._purge(report, now)
        return report

    async def _mark(self, queue: QueueFloor, report: KeeperReport, now: datetime) -> None:
        newest = max((at for at in (report.newest_marker, self._marked_at) if at is not None), default=None)
        every_s = _TICK_S if queue.last_seq > self._marked_seq else _IDLE_MARKER_EVERY_S
        # A little early, because a tick that comes a millisecond too soon would double the distance.
        if newest is not None and (now - newest).total_seconds() < every_s * 0.8:
            return
        marker = usage_raw_pb2.WatermarkMarker(marker_id=str(uuid7()), marker_time=time_to_pb(now))
        stored = await self._publisher.send(
            MARKER_SUBJECT,
            marker.SerializeToString(),
            f"-:marker:{marker.marker_id}",
            {},
            deadline_s=_MARKER_DEADLINE_S,
        )
        self._marked_at, self._marked_seq = now, stored.sequence
        self._published.append(StreamPosition(queue.stream_epoch, stored.sequence))

    async def _purge(self, report: KeeperReport, now: datetime) -> None:
        if self._purge_at is not None and (now - self._purge_at).total_seconds() < _PURGE_EVERY_S:
            return
        self._purge_at = now
        if report.purge_below > 1:
            await self._js.purge_stream(USAGE_RAW.name, seq=report.purge_below)

    def _measure(self, report: KeeperReport, now: datetime) -> None:
        if report.watermark is not None:
            metrics.WATERMARK_LAG.set((now - report.watermark).total_seconds())
        metrics.MISSING_BATCHES.set(len(report.holds))
        metrics.UNACCOUNTED_MESSAGES.set(report.unaccounted)
        metrics.QUEUE_LOST.set(report.queue_is_lost)


def encode_watermark(at: datetime, holds: Sequence[Hold]) -> bytes:
    """The payload of `ingest.watermark.advanced.v1`."""
    named = [watermark_pb2.TenantHold(tenant_id=hold.tenant_id, reason=hold.reason) for hold in holds]
    return watermark_pb2.WatermarkAdvanced(watermark_time=time_to_pb(at), holds=named).SerializeToString()


class PositionStore(Protocol):
    async def add_parked(self, position: StreamPosition, tenant_id: str, acceptor_epoch: str, number: int) -> None: ...


def park_with_position(park: Park, positions: PositionStore) -> Park:
    """Park a message and note its place in the stream, so that the watermark can pass it with a hold on its tenant."""

    async def park_and_note(delivery: Delivery, error: Exception) -> None:
        await park(delivery, error)
        place = StreamPosition(delivery.stream_epoch, delivery.stream_seq)
        await positions.add_parked(place, tenant_of(delivery), *batch_of(delivery))

    return park_and_note
