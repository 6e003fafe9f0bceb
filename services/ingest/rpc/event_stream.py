"""One call of StreamEvents: batches come in under a credit, answers go out as they become known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from opentelemetry import trace

from libs.errors import ServiceError
from libs.rpc import current_tenant, duration_to_pb, remaining_s
from libs.telemetry import context_from, semconv, tracer
from services.ingest import metrics
from services.ingest.rpc.batch_limits import check_batch, check_level, invalid
from services.ingest.rpc.stream_credit import StreamCredit, StreamLoad
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import usage_event_pb2

_LOG = logging.getLogger(__name__)
_TRACER = tracer("steelyard.ingest")

MAX_BATCHES = 32
MAX_BYTES = 4 << 20
_OPEN_WITHIN_S = 10.0
# After a drain what still arrives is taken for a moment, and then everything under way has its answer before the grace
# of a stopping server (10 s) is over.
_READ_AFTER_DRAIN_S = 2.0
_BATCH_S = 6.0

Context: TypeAlias = "grpc.aio.ServicerContext[pb.StreamEventsRequest, pb.StreamEventsResponse]"
Accept: TypeAlias = Callable[
    [Sequence[usage_event_pb2.UsageEvent], pb.AckLevel.ValueType, int, float], Awaitable[pb.IngestEventsResponse]
]
"""Takes the events of a checked batch, what to wait for, its size in bytes, and the seconds it may take."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What to write; `number` of the batch that it settles, None for others."""

    message: pb.StreamEventsResponse
    number: int | None = None


class EventStream:
    """Reads batches, lets them be accepted side by side, and writes their answers one after the other.

    A batch counts against the credit until its answer is being written. So whoever does not read answers is not read
    from either, and at most a credit's worth of them waits.
    """

    def __init__(self, context: Context, accept: Accept, load: StreamLoad, draining: asyncio.Event) -> None:
        self._context = context
        self._accept = accept
        self._load = load
        self._draining = draining
        self._level: pb.AckLevel.ValueType = pb.ACK_LEVEL_UNSPECIFIED
        self._credit = StreamCredit(MAX_BATCHES, MAX_BYTES)
        self._held: dict[int, int] = {}
        self._batches: set[asyncio.Task[None]] = set()
        self._answers: asyncio.Queue[_Answer | None] = asyncio.Queue()
        self._stream_span = trace.get_current_span().get_span_context()

    async def run(self) -> None:
        """Serve the stream to its end. What is under way when it is cancelled may or may not be stored.

        :raises ServiceError: if the caller breaks the protocol
        """
        self._count(1)
        try:
            self._level = await self._opened()
            # Before there is any other writer: the headers go with the first message.
            await self._context.write(
                pb.StreamEventsResponse(credit=pb.StreamCredit(batches=MAX_BATCHES, bytes=MAX_BYTES))
            )
            await self._serve()
        finally:
            self._count(-1)
            self._load.exchange(sum(self._held.values()), 0)

    def _count(self, change: int) -> None:
        self._load.streams += change
        metrics.STREAMS_OPEN.set(self._load.streams)

    async def _opened(self) -> pb.AckLevel.ValueType:
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                first = await self._context.read()
        except TimeoutError:
            raise invalid("open", "STREAM_NOT_OPEN", f"must come within {_OPEN_WITHIN_S:.0f} s") from None
        if not isinstance(first, pb.StreamEventsRequest) or first.WhichOneof("content") != "open":
            raise invalid("open", "STREAM_NOT_OPEN", "must be the first message")
        check_level(first.open.ack_level, "open.ack_level")
        return first.open.ack_level

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(group))
                drain = group.create_task(self._drain_when_asked(reading))
                group.create_task(self._write())
                await asyncio.wait({reading})
                drain.cancel()
                while self._batches:
                    await asyncio.wait(self._batches)
                self._answers.put_nowait(None)
        except BaseExceptionGroup as group:  # Of whom to tell there is one caller.
            raise group.exceptions[0] from None

    async def _read(self, group: asyncio.TaskGroup) -> None:
        """Take batches until the caller closes its side."""
        # There is always one read under way, also when the credit is used up: so that the end of the stream is seen.
        while isinstance(request := await self._context.read(), pb.StreamEventsRequest):
            content = request.WhichOneof("content")
            if content == "open":
                raise invalid("open", "STREAM_OPENED_TWICE", "must come once")
            if content != "batch":
                raise invalid("content", "CONTENT_MISSING", "must be a batch")
            batch = request.batch
            size_bytes = batch.ByteSize()
            self._credit.take(batch.number, size_bytes)
            task = group.create_task(self._take(batch, size_bytes))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _drain_when_asked(self, reading: asyncio.Task[None]) -> None:
        await self._draining.wait()
        self._answers.put_nowait(_Answer(pb.StreamEventsResponse(drain=pb.StreamDrain())))
        await asyncio.sleep(_READ_AFTER_DRAIN_S)
        reading.cancel()

    async def _write(self) -> None:
        while (answer := await self._answers.get()) is not None:
            if answer.number is not None:
                # Before it is written: the caller may have read it and sent the next batch before we are back here.
                self._credit.settle(answer.number)
            await self._context.write(answer.message)
            if answer.number is not None:
                self._load.exchange(self._held.pop(answer.number, 0), 0)

    async def _take(self, batch: pb.StreamBatch, size_bytes: int) -> None:
        number = batch.number
        try:
            self._load.hold(size_bytes)
            self._held[number] = size_bytes
            with self._span(batch):
                accepted = await self._accepted(batch, size_bytes)
            answer = pb.StreamEventsResponse(
                ack=pb.StreamAck(
                    number=number, verdicts=accepted.verdicts, problems=accepted.problems, receipt=accepted.receipt
                )
            )
            metrics.STREAM_BATCHES.add(1, "acknowledged")
        except ServiceError as error:
            answer = pb.StreamEventsResponse(failure=failure_to_pb(number, error))
            metrics.STREAM_BATCHES.add(1, "refused")
        except Exception:
            _LOG.exception("a batch of a stream failed")
            internal = pb.StreamFailure(
                number=number, code=_code(grpc.StatusCode.INTERNAL), reason="INTERNAL", description="internal error"
            )
            answer = pb.StreamEventsResponse(failure=internal)
            metrics.STREAM_BATCHES.add(1, "failed")
        answer_bytes = answer.ByteSize()
        self._load.exchange(self._held.get(number, 0), answer_bytes)
        self._held[number] = answer_bytes
        self._answers.put_nowait(_Answer(answer, number))

    async def _accepted(self, batch: pb.StreamBatch, size_bytes: int) -> pb.IngestEventsResponse:
        check_batch(batch.events, size_bytes)
        left_s = remaining_s()
        return await self._accept(batch.events, self._level, size_bytes, min(_BATCH_S, left_s or _BATCH_S))

    def _span(self, batch: pb.StreamBatch) -> AbstractContextManager[trace.Span]:
        """In the trace of whoever sent the batch: that of the stream would hold the batches of hours."""
        sent_in = context_from({"traceparent": batch.trace_parent}) if batch.trace_parent else None
        links = [trace.Link(self._stream_span)] if sent_in is not None and self._stream_span.is_valid else []
        attributes: dict[str, str | int] = {
            semconv.RPC_SYSTEM_NAME: "grpc",
            semconv.TENANT_ID: current_tenant(),
            semconv.MESSAGING_BATCH_MESSAGE_COUNT: len(batch.events),
        }
        return _TRACER.start_as_current_span(
            "StreamEvents batch", sent_in, trace.SpanKind.SERVER, attributes, links=links
        )


def failure_to_pb(number: int, error: ServiceError) -> pb.StreamFailure:
    """What the status of a call would say, for one batch."""
    failure = pb.StreamFailure(
        number=number,
        code=_code(grpc.StatusCode[error.kind.name]),
        reason=error.reason,
        description=error.message[:500],
    )
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        failure.retry_after.CopyFrom(duration_to_pb(retry_after_s))
    return failure


def _code(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number
