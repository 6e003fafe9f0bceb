"""UsageWindowService."""

from __future__ import annotations

from collections.abc import Sequence

from libs.errors import InvalidInput
from libs.money import plain
from libs.periods import find_zone, is_window_aligned
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.rpc.requests import (
    Context,
    check_storable,
    cursor_invalid,
    optional_time,
    period_between,
    required_time,
)
from services.ingest.usecases.list_windows import MAX_SCOPES, UsageDigest, UsageScope, WindowStore
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope, UsageQuantity
from services.ingest.wire.windows import window_to_pb
from steelyard.ingest.v1 import usage_window_service_pb2 as pb
from steelyard.ingest.v1 import usage_window_service_pb2_grpc

_MAX_WINDOWS = 5_000


class UsageWindowServicer(usage_window_service_pb2_grpc.UsageWindowServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, windows: WindowStore, get_quantities: GetUsageQuantities) -> None:
        self._windows = windows
        self._get_quantities = get_quantities

    async def ListUsageWindows(
        self, request: pb.ListUsageWindowsRequest, context: Context
    ) -> pb.ListUsageWindowsResponse:
        size, cursor = page_size(request, default=_MAX_WINDOWS, maximum=_MAX_WINDOWS), page_cursor(request, 2)
        try:
            after = None if cursor is None else (int(cursor[0]), bytes.fromhex(cursor[1]))
        except ValueError as error:
            raise cursor_invalid() from error
        found = await self._windows.windows(current_tenant(), _scopes(request.scopes), after, size + 1)
        page = fitting([window_to_pb(window) for _, window in found[:size]])
        token = ""
        if len(found) > len(page):
            scope_index, last = found[len(page) - 1]
            token = next_page_token(request, [str(scope_index), last.key.hex()])
        return pb.ListUsageWindowsResponse(windows=page, next_page_token=token)

    async def GetUsageDigests(self, request: pb.GetUsageDigestsRequest, context: Context) -> pb.GetUsageDigestsResponse:
        digests = await self._windows.digests(current_tenant(), _scopes(request.scopes))
        return pb.GetUsageDigestsResponse(digests=[_digest_to_pb(digest) for digest in digests])

    async def GetUsageQuantities(
        self, request: pb.GetUsageQuantitiesRequest, context: Context
    ) -> pb.GetUsageQuantitiesResponse:
        if not 1 <= len(request.scopes) <= MAX_SCOPES:
            raise InvalidInput.of("scopes", "WRONG_NUMBER", f"must be 1 to {MAX_SCOPES}")
        scopes = [_quantity_scope(message, f"scopes[{index}]") for index, message in enumerate(request.scopes)]
        known_at = optional_time(request.known_at, request.HasField("known_at"), "known_at")
        found = await self._get_quantities(current_tenant(), scopes, known_at)
        return pb.GetUsageQuantitiesResponse(quantities=map(_quantity_to_pb, found))


def _quantity_scope(message: pb.QuantityScope, field: str) -> QuantityScope:
    for name in ("customer_id", "meter_id"):
        if not getattr(message, name):
            raise InvalidInput.of(f"{field}.{name}", "REQUIRED", "must not be empty")
    check_storable(**{f"{field}.customer_id": message.customer_id, f"{field}.meter_id": message.meter_id})
    find_zone(message.time_zone or "UTC", f"{field}.time_zone")
    start = required_time(message.start_time, message.HasField("start_time"), f"{field}.start_time")
    end = required_time(message.end_time, message.HasField("end_time"), f"{field}.end_time")
    period = period_between(start, end, f"{field}.end_time")
    return QuantityScope(message.customer_id, message.meter_id, period, message.time_zone or "UTC")


def _quantity_to_pb(quantity: UsageQuantity) -> pb.UsageQuantity:
    return pb.UsageQuantity(
        value=None if quantity.value is None else plain(quantity.value),
        event_count=quantity.event_count,
        highest_version=quantity.highest_version,
    )


def _scopes(messages: Sequence[pb.UsageScope]) -> list[UsageScope]:
    if not 1 <= len(messages) <= MAX_SCOPES:
        raise InvalidInput.of("scopes", "WRONG_NUMBER", f"must be 1 to {MAX_SCOPES}")
    return [_scope(message, f"scopes[{index}]") for index, message in enumerate(messages)]


def _scope(message: pb.UsageScope, field: str) -> UsageScope:
    if not message.customer_id:
        raise InvalidInput.of(f"{field}.customer_id", "REQUIRED", "must not be empty")
    check_storable(**{f"{field}.customer_id": message.customer_id})
    start = required_time(message.start_time, message.HasField("start_time"), f"{field}.start_time")
    end = required_time(message.end_time, message.HasField("end_time"), f"{field}.end_time")
    for at, name in ((start, "start_time"), (end, "end_time")):
        if not is_window_aligned(at):
            raise InvalidInput.of(f"{field}.{name}", "INSIDE_WINDOW", "must be the edge of a 15-minute window")
    return UsageScope(message.customer_id, period_between(start, end, f"{field}.end_time"))


def _digest_to_pb(digest: UsageDigest) -> pb.UsageDigest:
    return pb.UsageDigest(
        scope_index=digest.scope_index,
        meter_id=digest.meter_id,
        window_count=digest.window_count,
        value_sum=plain(digest.value_sum),
        event_count=digest.event_count,
        highest_version=digest.highest_version,
    )
