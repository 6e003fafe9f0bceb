"""Ingest's measuring over gRPC."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import grpc

from libs.errors import InvalidInput, Unavailable
from libs.rpc import as_tenant, typed_errors
from services.rating.domain.estimate import MeasuredEvent, MeasuredQuantity
from services.rating.wire.times import instant_from_pb
from steelyard.ingest.v1 import measuring_service_pb2 as pb
from steelyard.ingest.v1 import measuring_service_pb2_grpc, usage_event_pb2


class GrpcEventMeasuring:
    """Asks ingest's query role. The channel has the internal key; each call names its tenant."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = measuring_service_pb2_grpc.MeasuringServiceStub(channel)

    async def measure(self, tenant_id: str, event: bytes) -> MeasuredEvent:
        """Return what would be measured in an event.

        :raises InvalidInput: if it would be rejected
        :raises ServiceError: if ingest does not answer
        """
        request = pb.MeasureEventsRequest(events=[usage_event_pb2.UsageEvent.FromString(event)])
        with typed_errors():
            response = await self._stub.MeasureEvents(request, metadata=as_tenant(tenant_id))
        if len(response.results) != 1:
            raise Unavailable(f"ingest answered {len(response.results)} of 1 measurements")
        found = response.results[0]
        if found.HasField("problem"):
            problem = found.problem
            raise InvalidInput.of(f"event.{problem.field}", problem.reason, problem.description)
        try:
            return MeasuredEvent(
                instant_from_pb(found.window_start_time), [_quantity(item) for item in found.measurements]
            )
        except (InvalidOperation, ValueError, OverflowError) as error:
            raise Unavailable(f"ingest's measurement cannot be read: {error}") from error


def _quantity(measured: pb.MeterMeasurement) -> MeasuredQuantity:
    quantity = Decimal(measured.value)
    if not quantity.is_finite():
        raise ValueError(f"{measured.meter_id} measured {measured.value}")
    return MeasuredQuantity(
        measured.meter_id, quantity, measured.unit, dict(measured.dimensions), additive=measured.additive
    )
