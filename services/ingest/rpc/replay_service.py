"""ReplayService."""

from __future__ import annotations

import hashlib
from datetime import datetime

from google.protobuf.message import Message

from libs.errors import InvalidInput
from libs.rpc import current_principal, current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.replays import ReplayScope
from services.ingest.rpc.requests import Context, check_storable, cursor_invalid, optional_time
from services.ingest.usecases.replays import (
    ChangeReplays,
    DifferenceCursor,
    ReplayMutation,
    ReplayStore,
    StartReplayRequest,
)
from services.ingest.wire.replays import MODES, difference_to_pb, replay_to_pb
from steelyard.ingest.v1 import replay_service_pb2 as pb
from steelyard.ingest.v1 import replay_service_pb2_grpc


class ReplayServicer(replay_service_pb2_grpc.ReplayServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, change: ChangeReplays, replays: ReplayStore) -> None:
        self._change = change
        self._replays = replays

    async def StartReplay(self, request: pb.StartReplayRequest, context: Context) -> pb.StartReplayResponse:
        mode = MODES.get(request.mode)
        if mode is None:
            raise InvalidInput.of("mode", "UNKNOWN", "must be rebuild or backfill")
        scope = ReplayScope(
            tuple(request.scope.meter_ids),
            tuple(request.scope.customer_ids),
            optional_time(request.scope.start_time, request.scope.HasField("start_time"), "scope.start_time"),
            optional_time(request.scope.end_time, request.scope.HasField("end_time"), "scope.end_time"),
        )
        meaning = pb.StartReplayRequest(mode=request.mode, dry_run=request.dry_run, scope=request.scope)
        mutation = _mutation(request.request_id, meaning)
        started = await self._change.start(mutation, StartReplayRequest(mode, request.dry_run, scope))
        return pb.StartReplayResponse(replay=replay_to_pb(started))

    async def GetReplay(self, request: pb.GetReplayRequest, context: Context) -> pb.GetReplayResponse:
        check_storable(replay_id=request.replay_id)
        replay = await self._replays.get(current_tenant(), request.replay_id)
        return pb.GetReplayResponse(replay=replay_to_pb(replay))

    async def ListReplays(self, request: pb.ListReplaysRequest, context: Context) -> pb.ListReplaysResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        found = await self._replays.list(current_tenant(), cursor[0] if cursor else None, size + 1)
        page = fitting([replay_to_pb(replay) for replay in found[:size]])
        token = next_page_token(request, [page[-1].replay_id]) if len(found) > len(page) else ""
        return pb.ListReplaysResponse(replays=page, next_page_token=token)

    async def ListReplayDifferences(
        self, request: pb.ListReplayDifferencesRequest, context: Context
    ) -> pb.ListReplayDifferencesResponse:
        check_storable(replay_id=request.replay_id)
        size, after = page_size(request), _after(page_cursor(request, 3))
        found = await self._replays.differences(current_tenant(), request.replay_id, after, size + 1)
        page = fitting([difference_to_pb(difference) for difference in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1]
            token = next_page_token(request, [last.meter_id, last.customer_id, last.hour.isoformat()])
        return pb.ListReplayDifferencesResponse(differences=page, next_page_token=token)

    async def ConfirmReplay(self, request: pb.ConfirmReplayRequest, context: Context) -> pb.ConfirmReplayResponse:
        check_storable(replay_id=request.replay_id)
        mutation = _mutation(request.request_id, pb.ConfirmReplayRequest(replay_id=request.replay_id))
        replay = await self._change.confirm(mutation, request.replay_id)
        return pb.ConfirmReplayResponse(replay=replay_to_pb(replay))

    async def CancelReplay(self, request: pb.CancelReplayRequest, context: Context) -> pb.CancelReplayResponse:
        check_storable(replay_id=request.replay_id)
        mutation = _mutation(request.request_id, pb.CancelReplayRequest(replay_id=request.replay_id))
        replay = await self._change.cancel(mutation, request.replay_id)
        return pb.CancelReplayResponse(replay=replay_to_pb(replay))


def _mutation(request_id: str, meaning: Message) -> ReplayMutation:
    """`meaning` is all that was asked except the id of the request."""
    fingerprint = hashlib.blake2b(meaning.SerializeToString(deterministic=True), digest_size=16).digest()
    principal = current_principal()
    actor = principal.key_id or str(principal.kind.name).lower()
    return ReplayMutation(current_tenant(), request_id, fingerprint, actor)


def _after(cursor: tuple[str, ...] | None) -> DifferenceCursor | None:
    if cursor is None:
        return None
    try:
        hour = datetime.fromisoformat(cursor[2])
    except ValueError as error:
        raise cursor_invalid() from error
    if hour.tzinfo is None:
        raise cursor_invalid()
    return cursor[0], cursor[1], hour
