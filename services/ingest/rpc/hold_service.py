"""HoldService."""

from __future__ import annotations

import hashlib

from libs.errors import InvalidInput
from libs.ids import check_tenant_id
from libs.rpc import fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.holds import EVERYBODY, HoldKey, HoldKind, HoldResolution, OpenHold
from services.ingest.rpc.requests import Context, cursor_invalid
from services.ingest.usecases.holds import HoldStore, ResolveHold, ResolveHoldRequest
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import hold_service_pb2 as pb
from steelyard.ingest.v1 import hold_service_pb2_grpc

_KINDS = {
    HoldKind.QUEUE_LOSS: pb.HOLD_KIND_QUEUE_LOSS,
    HoldKind.MISSING_BATCH: pb.HOLD_KIND_MISSING_BATCH,
    HoldKind.PARKED_MESSAGE: pb.HOLD_KIND_PARKED_MESSAGE,
}


class HoldServicer(hold_service_pb2_grpc.HoldServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, holds: HoldStore, resolve: ResolveHold) -> None:
        self._holds = holds
        self._resolve = resolve

    async def ListHolds(self, request: pb.ListHoldsRequest, context: Context) -> pb.ListHoldsResponse:
        _check_tenant(request.tenant_id)
        size = page_size(request)
        holds = await self._holds.open(request.tenant_id, _after(request), size + 1)
        page = fitting([_hold_to_pb(hold) for hold in holds[:size]])
        more = len(holds) > len(page)
        token = next_page_token(request, [page[-1].hold_id]) if more else ""
        return pb.ListHoldsResponse(holds=page, next_page_token=token)

    async def ResolveHold(self, request: pb.ResolveHoldRequest, context: Context) -> pb.ResolveHoldResponse:
        meaning = pb.ResolveHoldRequest(hold_id=request.hold_id, reason=request.reason, actor=request.actor)
        fingerprint = hashlib.blake2b(meaning.SerializeToString(deterministic=True), digest_size=16).digest()
        asked = ResolveHoldRequest(request.request_id, fingerprint, request.hold_id, request.reason, request.actor)
        return pb.ResolveHoldResponse(resolution=_resolution_to_pb(await self._resolve(asked)))

    async def ListHoldResolutions(
        self, request: pb.ListHoldResolutionsRequest, context: Context
    ) -> pb.ListHoldResolutionsResponse:
        _check_tenant(request.tenant_id)
        size = page_size(request)
        (after,) = page_cursor(request, 1) or ("",)
        found = await self._holds.resolutions(request.tenant_id or EVERYBODY, after, size + 1)
        page = fitting([_resolution_to_pb(item) for item in found[:size]])
        more = len(found) > len(page)
        token = next_page_token(request, [page[-1].hold_id]) if more else ""
        return pb.ListHoldResolutionsResponse(resolutions=page, next_page_token=token)


def _check_tenant(tenant_id: str) -> None:
    """Empty names none, and `-` is what nobody can tell the tenant of."""
    violation = check_tenant_id(tenant_id) if tenant_id not in ("", EVERYBODY) else None
    if violation:
        raise InvalidInput([violation])


def _after(request: pb.ListHoldsRequest) -> HoldKey | None:
    cursor = page_cursor(request, 1)
    if cursor is None:
        return None
    key = HoldKey.parse(cursor[0])
    if key is None:
        raise cursor_invalid()
    return key


def _hold_to_pb(hold: OpenHold) -> pb.Hold:
    key = hold.key
    return pb.Hold(
        hold_id=str(key),
        kind=_KINDS[key.kind],
        tenant_id="" if key.kind is HoldKind.QUEUE_LOSS else key.tenant_id,
        description=hold.description,
        notice_time=time_to_pb(hold.noticed_at),
    )


def _resolution_to_pb(resolution: HoldResolution) -> pb.HoldResolution:
    is_loss = resolution.hold_id.startswith(f"{HoldKind.QUEUE_LOSS}:")
    return pb.HoldResolution(
        hold_id=resolution.hold_id,
        tenant_id="" if is_loss else resolution.tenant_id,
        reason=resolution.reason,
        actor=resolution.actor,
        resolve_time=time_to_pb(resolution.resolved_at),
    )
