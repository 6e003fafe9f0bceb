"""IngestService."""

from __future__ import annotations

from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.errors import InvalidInput, Violation
from libs.rpc import current_tenant, remaining_s
from services.ingest import metrics
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from services.ingest.usecases.accept_usage import AcceptUsage
from services.ingest.wire.batches import VERDICTS, problem_to_pb
from steelyard.ingest.v1 import ingest_service_pb2, ingest_service_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

_LEVELS = (ingest_service_pb2.ACK_LEVEL_QUEUED, ingest_service_pb2.ACK_LEVEL_RECORDED)
_DEFAULT_TIME_LEFT_S = 10.0


class IngestServicer(ingest_service_pb2_grpc.IngestServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, accept: AcceptUsage) -> None:
        self._accept = accept

    async def IngestEvents(
        self, request: ingest_service_pb2.IngestEventsRequest, context: Context
    ) -> ingest_service_pb2.IngestEventsResponse:
        size_bytes = request.ByteSize()
        _check(request, size_bytes)
        time_left_s = remaining_s()
        acceptance = await self._accept(
            tenant_id=current_tenant(),
            events=list(request.events),
            size_bytes=size_bytes,
            wait_recorded=request.ack_level == ingest_service_pb2.ACK_LEVEL_RECORDED,
            time_left_s=_DEFAULT_TIME_LEFT_S if time_left_s is None else time_left_s,
        )
        metrics.EVENTS_ACCEPTED.add(len(acceptance.fates) - acceptance.rejected_at_door)
        metrics.EVENTS_REJECTED.add(acceptance.rejected_at_door, "door")
        return ingest_service_pb2.IngestEventsResponse(
            verdicts=[VERDICTS[fate] for fate in acceptance.fates],
            problems=[problem_to_pb(problem, index) for index, problem in acceptance.problems],
        )


def _check(request: ingest_service_pb2.IngestEventsRequest, size_bytes: int) -> None:
    if not request.events:
        raise _invalid("events", "BATCH_EMPTY", "must hold at least one event")
    if len(request.events) > MAX_BATCH_EVENTS:
        description = f"must hold at most {MAX_BATCH_EVENTS} events, holds {len(request.events)}"
        raise _invalid("events", "BATCH_TOO_LARGE", description)
    if size_bytes > MAX_BATCH_BYTES:
        raise _invalid("events", "BATCH_TOO_LARGE", f"must have at most {MAX_BATCH_BYTES} bytes, has {size_bytes}")
    if request.ack_level not in _LEVELS:
        raise _invalid("ack_level", "ACK_LEVEL_MISSING", "must be QUEUED or RECORDED")


def _invalid(field: str, reason: str, description: str) -> InvalidInput:
    return InvalidInput([Violation(field, reason, description)], reason=reason)
