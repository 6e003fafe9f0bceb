"""CorrectionService."""

from __future__ import annotations

import hashlib

from libs.rpc import current_principal, current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.door import time_problems
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.rpc.requests import Context, cursor_invalid
from services.ingest.usecases.corrections import CorrectionList, CorrectionRequest
from services.ingest.usecases.replace_events import ReplaceEvents, Replacements
from services.ingest.usecases.void_events import VoidEvents
from services.ingest.wire.corrections import keys_from_pb, listed_to_pb, result_to_pb
from steelyard.ingest.v1 import correction_service_pb2 as pb
from steelyard.ingest.v1 import correction_service_pb2_grpc

_MAX_POSITION = 1 << 63


class CorrectionServicer(correction_service_pb2_grpc.CorrectionServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, void: VoidEvents, replace: ReplaceEvents, corrections: CorrectionList) -> None:
        self._void = void
        self._replace = replace
        self._corrections = corrections

    async def VoidEvents(self, request: pb.VoidEventsRequest, context: Context) -> pb.VoidEventsResponse:
        results = await self._void(_asked("VoidEvents", request), keys_from_pb(request.keys))
        return pb.VoidEventsResponse(results=map(result_to_pb, results))

    async def ReplaceEvents(self, request: pb.ReplaceEventsRequest, context: Context) -> pb.ReplaceEventsResponse:
        originals = keys_from_pb(item.original for item in request.replacements)
        events = UsageColumns.from_messages([item.event for item in request.replacements])
        wanted = Replacements.complete(originals, events, time_problems(events))
        results = await self._replace(_asked("ReplaceEvents", request), wanted)
        return pb.ReplaceEventsResponse(results=map(result_to_pb, results))

    async def ListCorrections(self, request: pb.ListCorrectionsRequest, context: Context) -> pb.ListCorrectionsResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        before = None if cursor is None else _position(cursor[0])
        found = await self._corrections.list(current_tenant(), before, size + 1, waiting_only=request.waiting_only)
        page = fitting([listed_to_pb(item) for item in found[:size]])
        more = len(found) > len(page)
        token = next_page_token(request, [str(found[len(page) - 1].position)]) if more else ""
        return pb.ListCorrectionsResponse(corrections=page, next_page_token=token)


def _asked(method: str, request: pb.VoidEventsRequest | pb.ReplaceEventsRequest) -> CorrectionRequest:
    request_id = request.request_id
    request.ClearField("request_id")
    content = request.SerializeToString(deterministic=True)
    return CorrectionRequest(
        tenant_id=current_tenant(),
        method=method,
        request_id=request_id,
        fingerprint=hashlib.blake2b(content, digest_size=16).digest(),
        reason=request.reason,
        actor=request.actor,
        api_key_id=current_principal().key_id or "",
    )


def _position(text: str) -> int:
    try:
        position = int(text)
    except ValueError as error:
        raise cursor_invalid() from error
    if not 0 <= position < _MAX_POSITION:
        raise cursor_invalid()
    return position
