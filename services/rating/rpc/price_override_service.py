"""PriceOverrideService: translates, no rules."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from libs.errors import InvalidInput
from libs.ids import check_request_id
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.rating.domain.price_override import OverrideFilter
from services.rating.rpc import require
from services.rating.rpc.context import Context
from services.rating.usecases.price_overrides import OverrideRequest, PriceOverrides
from services.rating.wire.card_reading import Reading
from services.rating.wire.price_overrides import instant_of, override_from_pb, override_to_pb
from steelyard.rating.v1 import price_override_service_pb2 as pb
from steelyard.rating.v1 import price_override_service_pb2_grpc as pb_grpc


class PriceOverrideServicer(pb_grpc.PriceOverrideServiceServicer):
    """Overrides of the calling tenant."""

    def __init__(self, *, price_overrides: PriceOverrides) -> None:
        self._overrides = price_overrides

    async def CreatePriceOverride(
        self, request: pb.CreatePriceOverrideRequest, context: Context
    ) -> pb.CreatePriceOverrideResponse:
        reading = Reading()
        override = override_from_pb(request.price_override, reading)
        if violation := check_request_id(request.request_id):
            reading.violations.append(violation)
        if request.price_override.WhichOneof("target") is None:
            reading.add("price_override.target", "REQUIRED", "must be a customer or a subscription")
        meaning = pb.CreatePriceOverrideRequest(price_override=request.price_override)
        meaning.price_override.ClearField("create_time")
        stored = await self._overrides.create(_mutation(request.request_id, meaning), override, reading.violations)
        return pb.CreatePriceOverrideResponse(price_override=override_to_pb(stored))

    async def EndPriceOverride(
        self, request: pb.EndPriceOverrideRequest, context: Context
    ) -> pb.EndPriceOverrideResponse:
        reading = Reading()
        override_id = require.resource_id(request.override_id, "override_id")
        if violation := check_request_id(request.request_id):
            reading.violations.append(violation)
        if not request.HasField("end_time"):
            reading.add("end_time", "REQUIRED", "must be an instant")
        end_at = instant_of(request.end_time, "end_time", reading)
        if reading.violations or end_at is None:
            raise InvalidInput(reading.violations)
        meaning = pb.EndPriceOverrideRequest(override_id=override_id, end_time=request.end_time)
        stored = await self._overrides.end(_mutation(request.request_id, meaning), override_id, end_at)
        return pb.EndPriceOverrideResponse(price_override=override_to_pb(stored))

    async def GetPriceOverride(
        self, request: pb.GetPriceOverrideRequest, context: Context
    ) -> pb.GetPriceOverrideResponse:
        override_id = require.resource_id(request.override_id, "override_id")
        override = await self._overrides.get(current_tenant(), override_id)
        return pb.GetPriceOverrideResponse(price_override=override_to_pb(override))

    async def ListPriceOverrides(
        self, request: pb.ListPriceOverridesRequest, context: Context
    ) -> pb.ListPriceOverridesResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        wanted = OverrideFilter(request.rate_card_id, request.customer_id, request.subscription_id)
        if nul := [name for name, text in wanted._asdict().items() if "\0" in text]:
            raise InvalidInput.of(nul[0], "CONTROL_CHARACTER", "must not contain U+0000")
        found = await self._overrides.list(current_tenant(), wanted, cursor[0] if cursor else "", size + 1)
        page = fitting([override_to_pb(override) for override in found[:size]])
        more = len(found) > len(page)
        return pb.ListPriceOverridesResponse(
            price_overrides=page, next_page_token=next_page_token(request, [page[-1].override_id]) if more else ""
        )


def _mutation(request_id: str, meaning: Message) -> OverrideRequest:
    fingerprint = hashlib.sha256(meaning.SerializeToString(deterministic=True)).digest()
    return OverrideRequest(current_tenant(), request_id, fingerprint)
