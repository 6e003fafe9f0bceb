"""MeterService."""

from __future__ import annotations

import hashlib

from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.rpc.requests import Context, check_storable
from services.ingest.usecases.create_meter import CreateMeter, CreateMeterRequest, MeterStore
from services.ingest.wire.meters import meter_from_pb, meter_to_pb
from steelyard.ingest.v1 import meter_service_pb2, meter_service_pb2_grpc


class MeterServicer(meter_service_pb2_grpc.MeterServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, create: CreateMeter, meters: MeterStore) -> None:
        self._create = create
        self._meters = meters

    async def CreateMeter(
        self, request: meter_service_pb2.CreateMeterRequest, context: Context
    ) -> meter_service_pb2.CreateMeterResponse:
        request.meter.ClearField("create_time")
        request.meter.ClearField("additive")
        fingerprint = hashlib.blake2b(request.meter.SerializeToString(deterministic=True), digest_size=16).digest()
        meter = meter_from_pb(request.meter)
        asked = CreateMeterRequest(current_tenant(), request.request_id, fingerprint, meter)
        if request.validate_only:
            self._create.check(asked)
            return meter_service_pb2.CreateMeterResponse(meter=meter_to_pb(meter))
        created = await self._create(asked)
        return meter_service_pb2.CreateMeterResponse(meter=meter_to_pb(created))

    async def GetMeter(
        self, request: meter_service_pb2.GetMeterRequest, context: Context
    ) -> meter_service_pb2.GetMeterResponse:
        check_storable(meter_id=request.meter_id)
        meter = await self._meters.get(current_tenant(), request.meter_id)
        return meter_service_pb2.GetMeterResponse(meter=meter_to_pb(meter))

    async def ListMeters(
        self, request: meter_service_pb2.ListMetersRequest, context: Context
    ) -> meter_service_pb2.ListMetersResponse:
        size = page_size(request)
        (after,) = page_cursor(request, 1) or ("",)
        meters = await self._meters.list(current_tenant(), after, size + 1)
        page = fitting([meter_to_pb(meter) for meter in meters[:size]])
        more = len(meters) > len(page)
        return meter_service_pb2.ListMetersResponse(
            meters=page, next_page_token=next_page_token(request, [meters[len(page) - 1].meter_id]) if more else ""
        )
