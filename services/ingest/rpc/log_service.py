"""LogService."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.log_chain import ChainHead, hour_of
from services.ingest.rpc.requests import Context, check_storable, cursor_instant, cursor_invalid, required_time
from services.ingest.usecases.errors import SealNotFound
from services.ingest.usecases.get_receipts import GetReceipts
from services.ingest.usecases.log_ports import LogStore
from services.ingest.usecases.verify_log import LogRange, Reached, Stage, VerifyLog
from services.ingest.wire.corrections import keys_from_pb
from services.ingest.wire.log import (
    difference_to_pb,
    head_to_pb,
    kept_head_from_pb,
    receipt_to_pb,
    seal_to_pb,
    sum_to_pb,
)
from steelyard.ingest.v1 import log_service_pb2 as pb
from steelyard.ingest.v1 import log_service_pb2_grpc

_MAX_KEYS = 1_000
_LINKS_PER_STEP = 200
_NO_HOUR = "-"


class LogServicer(log_service_pb2_grpc.LogServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._verify = VerifyLog(store)
        self._receipts = GetReceipts(store)

    async def GetLogHead(self, request: pb.GetLogHeadRequest, context: Context) -> pb.GetLogHeadResponse:
        return head_to_pb(await self._store.head(current_tenant()))

    async def ListSeals(self, request: pb.ListSealsRequest, context: Context) -> pb.ListSealsResponse:
        size, cursor = page_size(request), page_cursor(request, 2)
        before = None if cursor is None else (cursor_instant(cursor[0]), _number(cursor[1], bits=32))
        found = await self._store.seals(current_tenant(), before, size + 1, latest_only=request.latest_only)
        page = fitting([seal_to_pb(seal) for seal in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1].entry
            token = next_page_token(request, [last.hour_start.isoformat(), str(last.version)])
        return pb.ListSealsResponse(seals=page, next_page_token=token)

    async def GetSeal(self, request: pb.GetSealRequest, context: Context) -> pb.GetSealResponse:
        hour = required_time(request.hour_start_time, request.HasField("hour_start_time"), "hour_start_time")
        if hour != hour_of(hour):
            raise InvalidInput.of("hour_start_time", "NOT_AN_HOUR", "must be the start of an hour, UTC")
        size, cursor = page_size(request), page_cursor(request, 3)
        # Pages stay with the version of the first one.
        version = request.version if cursor is None else _number(cursor[0], bits=32)
        seal = await self._store.seal(current_tenant(), hour, version)
        if seal is None:
            named = f"version {version}" if version else "no version"
            raise SealNotFound(f"{hour:%Y-%m-%dT%H:%MZ} has no such seal: {named}", hour=f"{hour:%Y-%m-%dT%H:%MZ}")
        version, after = seal.entry.version, None if cursor is None else (cursor[1], cursor[2])
        sums = await self._store.sums(current_tenant(), hour, version, after, size + 1)
        page = fitting([sum_to_pb(found) for found in sums[:size]])
        more = len(sums) > len(page)
        token = next_page_token(request, [str(version), page[-1].meter_id, page[-1].customer_id]) if more else ""
        return pb.GetSealResponse(seal=seal_to_pb(seal), sums=page, next_page_token=token)

    async def GetReceipts(self, request: pb.GetReceiptsRequest, context: Context) -> pb.GetReceiptsResponse:
        if not 1 <= len(request.keys) <= _MAX_KEYS:
            raise InvalidInput.of("keys", "WRONG_NUMBER", f"must be 1 to {_MAX_KEYS}")
        keys = keys_from_pb(request.keys)
        for index, (source, event_id) in enumerate(keys):
            check_storable(**{f"keys[{index}].source": source, f"keys[{index}].event_id": event_id})
        found = await self._receipts(current_tenant(), keys)
        return pb.GetReceiptsResponse(results=map(receipt_to_pb, keys, found))

    async def VerifyLog(self, request: pb.VerifyLogRequest, context: Context) -> pb.VerifyLogResponse:
        asked = LogRange(
            first=request.from_position or 1,
            through=request.to_position,
            kept=kept_head_from_pb(request.kept_head) if request.HasField("kept_head") else None,
            links_at_once=page_size(request, default=_LINKS_PER_STEP),
        )
        done = await self._verify(current_tenant(), asked, _reached(page_cursor(request, 4)))
        return pb.VerifyLogResponse(
            verified_links=done.links,
            verified_events=done.events,
            verified_hours=done.hours,
            unsettled_hours=done.unsettled_hours,
            difference=difference_to_pb(done.difference) if done.difference else None,
            next_page_token=next_page_token(request, _cursor(done.next)) if done.next else "",
        )


def _cursor(reached: Reached) -> list[str]:
    hour = reached.hour.isoformat() if reached.hour else _NO_HOUR
    return [reached.stage, str(reached.head.position), reached.head.chain_hash.hex(), hour]


def _reached(cursor: tuple[str, ...] | None) -> Reached | None:
    if cursor is None:
        return None
    stage, position, chain_hash, hour = cursor
    try:
        head = ChainHead(_number(position), bytes.fromhex(chain_hash))
        return Reached(Stage(stage), head, None if hour == _NO_HOUR else cursor_instant(hour))
    except ValueError as error:
        raise cursor_invalid() from error


def _number(text: str, *, bits: int = 64) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20) or int(text) >= 1 << bits - 1:
        raise cursor_invalid()
    return int(text)
