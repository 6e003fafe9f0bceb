"""MeterService."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from libs.rpc import current_principal, current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.meter_versions import MAX_VERSIONS
from services.ingest.rpc.requests import Context, check_storable, cursor_invalid
from services.ingest.usecases.change_meter import ChangeMeter, MeterChange, MeterChanges
from services.ingest.usecases.create_meter import CreateMeter, CreateMeterRequest, MeterStore
from services.ingest.wire.meters import meter_from_pb, meter_to_pb, version_to_pb
from steelyard.ingest.v1 import meter_pb2, meter_service_pb2, meter_service_pb2_grpc

_Mutation: TypeAlias = meter_service_pb2.UpdateMeterRequest | meter_service_pb2.ArchiveMeterRequest


class MeterServicer(meter_service_pb2_grpc.MeterServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, create: CreateMeter, change: ChangeMeter, meters: MeterStore, changes: MeterChanges) -> None:
        self._create = create
        self._change = change
        self._meters = meters
        self._changes = changes

    async def CreateMeter(
        self, request: meter_service_pb2.CreateMeterRequest, context: Context
    ) -> meter_service_pb2.CreateMeterResponse:
        _clear_server_fields(request.meter)
        meter = meter_from_pb(request.meter)
        asked = CreateMeterRequest(current_tenant(), request.request_id, _digest(request.meter), meter, _actor())
        if request.validate_only:
            self._create.check(asked)
            checked = meter_to_pb(meter)
            checked.ClearField("version")
            return meter_service_pb2.CreateMeterResponse(meter=checked)
        created = await self._create(asked)
        return meter_service_pb2.CreateMeterResponse(meter=meter_to_pb(created))

    async def UpdateMeter(
        self, request: meter_service_pb2.UpdateMeterRequest, context: Context
    ) -> meter_service_pb2.UpdateMeterResponse:
        _clear_server_fields(request.meter)
        wanted = meter_from_pb(request.meter)
        change = _change_of(request.meter.meter_id, request)
        updated = await self._change.update(change, wanted, request.expected_version)
        return meter_service_pb2.UpdateMeterResponse(meter=meter_to_pb(updated))

    async def ArchiveMeter(
        self, request: meter_service_pb2.ArchiveMeterRequest, context: Context
    ) -> meter_service_pb2.ArchiveMeterResponse:
        archived = await self._change.archive(_change_of(request.meter_id, request))
        return meter_service_pb2.ArchiveMeterResponse(meter=meter_to_pb(archived))

    async def ListMeterVersions(
        self, request: meter_service_pb2.ListMeterVersionsRequest, context: Context
    ) -> meter_service_pb2.ListMeterVersionsResponse:
        check_storable(meter_id=request.meter_id)
        size = page_size(request)
        versions = await self._changes.versions(current_tenant(), request.meter_id, _before(request), size + 1)
        page = fitting([version_to_pb(version) for version in versions[:size]])
        more = len(versions) > len(page)
        return meter_service_pb2.ListMeterVersionsResponse(
            versions=page, next_page_token=next_page_token(request, [str(page[-1].version)]) if more else ""
        )

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


def _clear_server_fields(meter: meter_pb2.Meter) -> None:
    for name in ("create_time", "additive", "version", "archive_time"):
        meter.ClearField(name)


def _change_of(meter_id: str, request: _Mutation) -> MeterChange:
    request_id = request.request_id
    request.ClearField("request_id")
    return MeterChange(current_tenant(), request_id, _digest(request), _actor(), meter_id)


def _digest(message: meter_pb2.Meter | _Mutation) -> bytes:
    return hashlib.blake2b(message.SerializeToString(deterministic=True), digest_size=16).digest()


def _actor() -> str:
    """Who calls, as it is kept with what they did."""
    principal = current_principal()
    return principal.key_id or str(principal.kind.name).lower()


def _before(request: meter_service_pb2.ListMeterVersionsRequest) -> int:
    cursor = page_cursor(request, 1)
    if cursor is None:
        return MAX_VERSIONS + 1
    if not (cursor[0].isascii() and cursor[0].isdecimal() and len(cursor[0]) <= 4):
        raise cursor_invalid()
    return int(cursor[0])
