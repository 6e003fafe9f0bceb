"""MeasuringService."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.money import plain
from libs.rpc import current_tenant
from services.ingest.domain.event_measurement import EventMeasurement
from services.ingest.rpc.requests import Context
from services.ingest.usecases.measure_events import MeasureEvents
from services.ingest.wire.batches import problem_to_pb
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import measuring_service_pb2 as pb
from steelyard.ingest.v1 import measuring_service_pb2_grpc

MAX_EVENTS = 100


class MeasuringServicer(measuring_service_pb2_grpc.MeasuringServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, measure_events: MeasureEvents) -> None:
        self._measure_events = measure_events

    async def MeasureEvents(self, request: pb.MeasureEventsRequest, context: Context) -> pb.MeasureEventsResponse:
        if not 1 <= len(request.events) <= MAX_EVENTS:
            raise InvalidInput.of("events", "WRONG_NUMBER", f"must be 1 to {MAX_EVENTS}")
        found = self._measure_events(current_tenant(), request.events)
        return pb.MeasureEventsResponse(results=[_to_pb(index, item) for index, item in enumerate(found)])


def _to_pb(index: int, item: EventMeasurement) -> pb.EventMeasurement:
    if item.problem is not None:
        return pb.EventMeasurement(problem=problem_to_pb(item.problem, index))
    return pb.EventMeasurement(
        measurements=[
            pb.MeterMeasurement(
                meter_id=measured.meter.meter_id,
                value=plain(measured.value),
                unit=measured.meter.unit,
                dimensions=measured.dimensions,
                additive=measured.meter.additive,
            )
            for measured in item.values
        ],
        window_start_time=None if item.window_start is None else time_to_pb(item.window_start),
    )
