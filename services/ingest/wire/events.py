"""Stored events and their fates on the wire."""

from __future__ import annotations

from services.ingest.domain.stored_event import EventCounts, EventStatus, StoredEvent, StoredException
from services.ingest.wire.batches import VERDICTS
from services.ingest.wire.corrections import correction_to_pb, key_to_pb
from services.ingest.wire.times import time_ns_to_pb, time_to_pb
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2, usage_service_pb2


def event_to_pb(event: StoredEvent) -> usage_service_pb2.StoredEvent:
    return usage_service_pb2.StoredEvent(
        event=usage_event_pb2.UsageEvent(
            event_id=event.event_id,
            source=event.source,
            event_type=event.event_type,
            customer_id=event.customer_id,
            event_time=time_ns_to_pb(event.time_ns),
            properties=event.properties,
        ),
        received_time=time_to_pb(event.received_at),
        accepted_time=time_to_pb(event.accepted_at),
        measured_values=event.measured,
        unassigned=event.unassigned,
        correction=correction_to_pb(event.correction) if event.correction else None,
        replaces=key_to_pb(event.replaces) if event.replaces else None,
        late=event.late,
    )


def exception_to_pb(exception: StoredException) -> usage_service_pb2.EventException:
    return usage_service_pb2.EventException(
        key=key_to_pb(exception.key),
        verdict=VERDICTS[exception.fate],
        field=exception.problem.field,
        reason=exception.problem.reason,
        description=exception.problem.description,
        received_time=time_to_pb(exception.received_at),
        customer_id=exception.customer_id,
    )


def status_to_pb(status: EventStatus) -> usage_service_pb2.EventStatus:
    unknown = ingest_service_pb2.EVENT_VERDICT_UNSPECIFIED
    return usage_service_pb2.EventStatus(
        key=key_to_pb(status.key),
        verdict=unknown if status.fate is None else VERDICTS[status.fate],
        exceptions=[exception_to_pb(item) for item in status.exceptions],
        duplicates=status.duplicates,
        meter_ids=status.meter_ids,
    )


def counts_to_pb(counts: EventCounts) -> usage_service_pb2.GetEventCountsResponse:
    return usage_service_pb2.GetEventCountsResponse(
        sent=counts.accepted + counts.rejected_at_door,
        accepted=counts.accepted,
        rejected_at_door=counts.rejected_at_door,
        recorded=counts.recorded,
        duplicate=counts.duplicate,
        conflict=counts.conflict,
        rejected_by_recorder=counts.rejected_by_recorder,
        unassigned=counts.unassigned,
    )
