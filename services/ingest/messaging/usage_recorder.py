"""The consumer of USAGE_RAW."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client

from libs.clock import Clock, monotonic_s
from libs.messaging import Delivery, UnreadableMessage
from services.ingest import metrics
from services.ingest.domain.recording import BatchOutcome, Fate
from services.ingest.usecases.ports import QueuedBatch, QueuedMarker, StreamPosition
from services.ingest.usecases.record_usage import ChunkReport, RecordUsage
from services.ingest.wire.batches import batch_from_pb, outcome_to_pb
from services.ingest.wire.times import time_from_pb
from steelyard.ingest.v1 import usage_raw_pb2

DURABLE = "ingest-usage-record"
RAW_SUBJECTS = "usage.raw.*"
MARKER_SUBJECT = "usage.marker"
SUBJECTS = (RAW_SUBJECTS, MARKER_SUBJECT)
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]([0-9a-f])")

_logger = logging.getLogger(__name__)


class UsageRecorder:
    """Handler of a chunk of deliveries: one transaction, then the replies to acceptors that wait.

    `on_recorded` hears after each chunk how old its newest batch was by then (s; 0 if there was none).
    """

    def __init__(
        self, record: RecordUsage, connection: Client, clock: Clock, on_recorded: Callable[[float], None]
    ) -> None:
        self._record = record
        self._on_recorded = on_recorded
        self._connection = connection
        self._clock = clock

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """
        :raises UnreadableMessage: if one of them is no batch or marker; none is recorded then
        """
        started_s = monotonic_s()
        batches: list[QueuedBatch] = []
        markers: list[QueuedMarker] = []
        replies: list[str] = []
        for delivery in deliveries:
            if delivery.subject == MARKER_SUBJECT:
                markers.append(_marker(delivery))
            else:
                batch, reply_subject = _batch(delivery)
                batches.append(batch)
                replies.append(reply_subject)
        report = await self._record(batches, markers)
        lag_s = self._lag_s(batches)
        self._on_recorded(lag_s)
        for subject, outcome in zip(replies, report.outcomes, strict=True):
            await self._reply(subject, outcome)
        metrics.RECORDER_CHUNK_DURATION.record(monotonic_s() - started_s)
        if batches:
            metrics.RECORDER_LAG.set(lag_s)
        _count(report)

    def _lag_s(self, batches: Sequence[QueuedBatch]) -> float:
        newest = max((item.batch.received_at for item in batches), default=None)
        return max(0.0, (self._clock() - newest).total_seconds()) if newest else 0.0

    async def _reply(self, subject: str, outcome: BatchOutcome) -> None:
        if not subject:
            return
        try:
            await self._connection.publish(subject, outcome_to_pb(outcome).SerializeToString())
        except nats.errors.Error as error:  # The caller then hears "queued", which is true.
            _logger.info("a reply is lost: %s", error)


def _count(report: ChunkReport) -> None:
    metrics.EVENTS_RECORDED.add(report.fates[Fate.RECORDED])
    metrics.EVENTS_DUPLICATE.add(report.fates[Fate.DUPLICATE])
    metrics.EVENTS_CONFLICT.add(report.fates[Fate.CONFLICT])
    metrics.EVENTS_REJECTED.add(report.fates[Fate.REJECTED], "recorder")


def tenant_of(delivery: Delivery) -> str:
    """The tenant of a message of USAGE_RAW by its subject; a marker has none and gives an impossible one."""
    return delivery.subject.rpartition(".")[2] if delivery.subject != MARKER_SUBJECT else "-"


def batch_of(delivery: Delivery) -> tuple[str, int]:
    """Epoch and number of a batch, if the message is one of its tenant; otherwise nothing, and 0."""
    try:
        message = usage_raw_pb2.AcceptedBatch.FromString(delivery.data)
    except DecodeError:
        return "", 0
    if delivery.subject == MARKER_SUBJECT or message.tenant_id != tenant_of(delivery) or message.batch_number < 1:
        return "", 0
    return message.acceptor_epoch, message.batch_number


def _position(delivery: Delivery) -> StreamPosition:
    return StreamPosition(delivery.stream_epoch, delivery.stream_seq)


def _batch(delivery: Delivery) -> tuple[QueuedBatch, str]:
    try:
        message = usage_raw_pb2.AcceptedBatch.FromString(delivery.data)
        batch = batch_from_pb(message, _sampled(delivery.headers.get("traceparent", "")))
    except (DecodeError, ValueError, OverflowError) as error:
        raise UnreadableMessage(f"no AcceptedBatch: {error}") from error
    if batch.tenant_id != tenant_of(delivery):
        raise UnreadableMessage(f"a batch of {batch.tenant_id} on {delivery.subject}")
    return QueuedBatch(batch, _position(delivery)), message.reply_subject


def _sampled(trace_parent: str) -> str:
    """The W3C trace context if it is one that was sampled, else nothing."""
    match = _TRACE_PARENT.fullmatch(trace_parent)
    return trace_parent if match is not None and int(match[1], 16) & 1 else ""


def _marker(delivery: Delivery) -> QueuedMarker:
    try:
        message = usage_raw_pb2.WatermarkMarker.FromString(delivery.data)
        marked_at = time_from_pb(message.marker_time)
    except (DecodeError, ValueError, OverflowError) as error:
        raise UnreadableMessage(f"no WatermarkMarker: {error}") from error
    return QueuedMarker(message.marker_id, marked_at, _position(delivery))
