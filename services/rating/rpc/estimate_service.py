"""EstimateService: translates, no rules."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.rpc import current_tenant
from services.rating.rpc.context import Context
from services.rating.usecases.estimate_event import EstimateEvent
from services.rating.wire.estimates import estimate_to_pb
from steelyard.rating.v1 import estimate_service_pb2 as pb
from steelyard.rating.v1 import estimate_service_pb2_grpc as pb_grpc


class EstimateServicer(pb_grpc.EstimateServiceServicer):
    """What usage of the calling tenant would cost."""

    def __init__(self, *, estimate_event: EstimateEvent) -> None:
        self._estimate_event = estimate_event

    async def EstimateEvent(self, request: pb.EstimateEventRequest, context: Context) -> pb.EstimateEventResponse:
        if not request.HasField("event"):
            raise InvalidInput.of("event", "REQUIRED", "must be the event as it would be sent")
        event = request.event
        estimate = await self._estimate_event(current_tenant(), event.customer_id, event.SerializeToString())
        return estimate_to_pb(estimate)
