"""Batches of usage and their outcomes on the wire."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from libs.errors import Violation
from services.ingest.domain.recording import BatchOutcome, EventException, Fate
from services.ingest.domain.usage_batch import (
    MAX_BATCH_EVENTS,
    NANOSECONDS,
    EventMessage,
    RejectedEvent,
    UsageBatch,
    UsageColumns,
    storable,
)
from services.ingest.usecases.ports import OutgoingBatch
from services.ingest.wire.times import time_from_pb, time_to_pb
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2, usage_raw_pb2

VERDICTS: dict[Fate | None, ingest_service_pb2.EventVerdict.ValueType] = {
    None: ingest_service_pb2.EVENT_VERDICT_QUEUED,
    Fate.RECORDED: ingest_service_pb2.EVENT_VERDICT_RECORDED,
    Fate.DUPLICATE: ingest_service_pb2.EVENT_VERDICT_DUPLICATE,
    Fate.CONFLICT: ingest_service_pb2.EVENT_VERDICT_CONFLICT,
    Fate.REJECTED: ingest_service_pb2.EVENT_VERDICT_REJECTED,
}
# A thousand refused events, with their problems in place of their properties, still fit into a message of 1 MiB.
_MAX_DESCRIPTION = 200
_END_OF_TIME_NS = 1 << 63
_FATES = {verdict: fate for fate, verdict in VERDICTS.items()}


def problem_to_pb(problem: Violation, index: int = 0) -> ingest_service_pb2.EventProblem:
    return ingest_service_pb2.EventProblem(
        index=index, field=problem.field, reason=problem.reason, description=problem.description
    )


def encode_batch(batch: OutgoingBatch, acceptor_epoch: str, reply_subject: str) -> bytes:
    """The AcceptedBatch of USAGE_RAW, serialised; `reply_subject` is left out if nobody waits."""
    without_events = usage_raw_pb2.AcceptedBatch(
        tenant_id=batch.tenant_id,
        acceptor_epoch=acceptor_epoch,
        batch_number=batch.number,
        received_time=time_to_pb(batch.received_at),
        accepted_time=time_to_pb(batch.accepted_at),
        rejected_events=[_rejected_to_pb(event, problem) for event, problem in batch.rejected_events],
        reply_subject=reply_subject if batch.wants_reply else "",
        accepted_total=batch.accepted_total,
        rejected_total=batch.rejected_total,
        abandoned_batch_numbers=batch.abandoned_numbers,
    )
    events = usage_raw_pb2.AcceptedEvents(events=batch.events)
    return without_events.SerializeToString() + events.SerializeToString()


def batch_from_pb(message: usage_raw_pb2.AcceptedBatch, trace_parent: str) -> UsageBatch:
    """
    :raises ValueError: if it is no batch that an acceptor makes
    """
    events = UsageColumns.from_messages(message.events)
    if message.batch_number < 1 or not message.tenant_id or not message.acceptor_epoch or not all(events.times_ns):
        raise ValueError("a batch without its number, tenant or epoch, or an event without its time")
    if len(events) + len(message.rejected_events) > MAX_BATCH_EVENTS:
        raise ValueError("more events than a batch has")  # Their positions would be those of the next batch.
    if min(message.accepted_total, message.rejected_total, *message.abandoned_batch_numbers) < 0:
        raise ValueError("a number below zero")
    if max(map(abs, events.times_ns), default=0) >= _END_OF_TIME_NS:
        raise ValueError("an event in no year that a clock knows")
    return UsageBatch(
        tenant_id=message.tenant_id,
        acceptor_epoch=message.acceptor_epoch,
        batch_number=message.batch_number,
        received_at=time_from_pb(message.received_time),
        accepted_at=time_from_pb(message.accepted_time),
        events=events,
        rejected=[_rejected_from_pb(item) for item in message.rejected_events],
        accepted_total=message.accepted_total,
        rejected_total=message.rejected_total,
        abandoned_numbers=tuple(message.abandoned_batch_numbers),
        trace_parent=trace_parent,
    )


def outcome_to_pb(outcome: BatchOutcome) -> usage_raw_pb2.BatchRecorded:
    exceptions = []
    for item in outcome.exceptions:
        problem = item.problem or Violation("", "", "")
        exceptions.append(
            usage_raw_pb2.RecordedException(
                ordinal=item.ordinal,
                verdict=VERDICTS[item.fate],
                field=problem.field,
                reason=problem.reason,
                description=problem.description,
            )
        )
    return usage_raw_pb2.BatchRecorded(
        tenant_id=outcome.tenant_id,
        acceptor_epoch=outcome.acceptor_epoch,
        batch_number=outcome.batch_number,
        exceptions=exceptions,
    )


def outcome_from_pb(data: bytes) -> BatchOutcome:
    """
    :raises ValueError: if it is no BatchRecorded
    """
    try:
        message = usage_raw_pb2.BatchRecorded.FromString(data)
    except DecodeError as error:
        raise ValueError("no BatchRecorded") from error
    exceptions = [_exception_from_pb(item) for item in message.exceptions]
    return BatchOutcome(message.tenant_id, message.acceptor_epoch, message.batch_number, exceptions)


def _exception_from_pb(item: usage_raw_pb2.RecordedException) -> EventException:
    fate = _FATES.get(item.verdict)
    if fate is None:
        raise ValueError(f"not the verdict of a recorder: {item.verdict}")
    problem = Violation(item.field, item.reason, item.description) if item.reason else None
    return EventException(item.ordinal, fate, problem)


def _rejected_to_pb(event: EventMessage, problem: Violation) -> usage_raw_pb2.RejectedEvent:
    kept = usage_event_pb2.UsageEvent(
        event_id=storable(event.event_id),
        source=storable(event.source),
        event_type=storable(event.event_type),
        customer_id=storable(event.customer_id),
        sequence=event.sequence,
        sequence_epoch=storable(event.sequence_epoch),
    )
    kept.event_time.seconds, kept.event_time.nanos = event.event_time.seconds, event.event_time.nanos
    short = Violation(storable(problem.field), problem.reason, storable(problem.description, _MAX_DESCRIPTION))
    return usage_raw_pb2.RejectedEvent(event=kept, problem=problem_to_pb(short))


def _rejected_from_pb(message: usage_raw_pb2.RejectedEvent) -> RejectedEvent:
    event, problem = message.event, message.problem
    return RejectedEvent(
        event_id=storable(event.event_id),
        source=storable(event.source),
        event_type=storable(event.event_type),
        customer_id=storable(event.customer_id),
        time_ns=event.event_time.seconds * NANOSECONDS + event.event_time.nanos,
        problem=Violation(storable(problem.field), problem.reason, storable(problem.description, _MAX_DESCRIPTION)),
        sequence=event.sequence,
        sequence_epoch=storable(event.sequence_epoch),
    )
