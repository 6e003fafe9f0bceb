"""IngestService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.errors import Violation
from libs.rpc import current_tenant, draining, remaining_s
from services.ingest import metrics
from services.ingest.rpc.batch_limits import check_batch, check_level
from services.ingest.rpc.event_stream import Context as StreamContext
from services.ingest.rpc.event_stream import EventStream
from services.ingest.rpc.stream_credit import StreamLoad
from services.ingest.usecases.accept_usage import NOTHING_REFUSED, AcceptUsage
from services.ingest.wire.batches import VERDICTS, problem_to_pb
from services.ingest.wire.cloud_events import map_cloud_events
from steelyard.ingest.v1 import ingest_service_pb2, ingest_service_pb2_grpc, usage_event_pb2

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

_DEFAULT_TIME_LEFT_S = 10.0
_MOST_BYTES_ON_STREAMS = 128 << 20


class IngestServicer(ingest_service_pb2_grpc.IngestServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, accept: AcceptUsage, acceptor_epoch: str) -> None:
        self._accept = accept
        self._acceptor_epoch = acceptor_epoch
        self._streams = StreamLoad(_MOST_BYTES_ON_STREAMS)

    async def IngestEvents(
        self, request: ingest_service_pb2.IngestEventsRequest, context: Context
    ) -> ingest_service_pb2.IngestEventsResponse:
        size_bytes = request.ByteSize()
        check_batch(request.events, size_bytes)
        check_level(request.ack_level)
        time_left_s = remaining_s()
        return await self._take(
            request.events,
            request.ack_level,
            size_bytes,
            _DEFAULT_TIME_LEFT_S if time_left_s is None else time_left_s,
        )

    async def StreamEvents(  # type: ignore[override]  # grpc.aio also takes coroutines that write.
        self, requests: AsyncIterator[ingest_service_pb2.StreamEventsRequest], context: StreamContext
    ) -> None:
        await EventStream(context, self._take, self._streams, draining()).run()

    async def IngestCloudEvents(
        self, request: ingest_service_pb2.IngestCloudEventsRequest, context: Context
    ) -> ingest_service_pb2.IngestCloudEventsResponse:
        check_level(request.ack_level)
        batch = map_cloud_events(request)
        time_left_s = remaining_s()
        answer = await self._take(
            batch.events,
            request.ack_level,
            batch.size_bytes,
            _DEFAULT_TIME_LEFT_S if time_left_s is None else time_left_s,
            batch.problems,
        )
        return ingest_service_pb2.IngestCloudEventsResponse(
            verdicts=answer.verdicts, problems=answer.problems, receipt=answer.receipt
        )

    async def _take(
        self,
        events: Sequence[usage_event_pb2.UsageEvent],
        ack_level: ingest_service_pb2.AckLevel.ValueType,
        size_bytes: int,
        time_left_s: float,
        refused: Mapping[int, Violation] = NOTHING_REFUSED,
    ) -> ingest_service_pb2.IngestEventsResponse:
        acceptance = await self._accept(
            tenant_id=current_tenant(),
            events=list(events),
            size_bytes=size_bytes,
            wait_recorded=ack_level == ingest_service_pb2.ACK_LEVEL_RECORDED,
            time_left_s=time_left_s,
            refused=refused,
        )
        metrics.EVENTS_ACCEPTED.add(len(acceptance.fates) - acceptance.rejected_at_door)
        metrics.EVENTS_REJECTED.add(acceptance.rejected_at_door, "door")
        return ingest_service_pb2.IngestEventsResponse(
            verdicts=[VERDICTS[fate] for fate in acceptance.fates],
            problems=[problem_to_pb(problem, index) for index, problem in acceptance.problems],
            receipt=ingest_service_pb2.BatchReceipt(
                acceptor_epoch=self._acceptor_epoch, batch_number=acceptance.batch_number
            ),
        )
