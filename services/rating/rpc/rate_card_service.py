"""RateCardService: translates, no rules."""

from __future__ import annotations

import hashlib

from libs.ids import check_request_id
from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.rating.rpc import require
from services.rating.rpc.context import Context
from services.rating.usecases.create_rate_card import CreateRateCard, GetRateCards, Request
from services.rating.wire.card_reading import Reading
from services.rating.wire.rate_cards import guard_from_pb, rate_card_from_pb, rate_card_message, rate_card_to_pb
from steelyard.rating.v1 import rate_card_service_pb2 as pb
from steelyard.rating.v1 import rate_card_service_pb2_grpc as pb_grpc


class RateCardServicer(pb_grpc.RateCardServiceServicer):
    """Rate cards of the calling tenant."""

    def __init__(self, *, create_rate_card: CreateRateCard, get_rate_cards: GetRateCards) -> None:
        self._create_rate_card = create_rate_card
        self._get_rate_cards = get_rate_cards

    async def CreateRateCard(self, request: pb.CreateRateCardRequest, context: Context) -> pb.CreateRateCardResponse:
        reading = Reading()
        card = rate_card_from_pb(request.rate_card, reading)
        guard = guard_from_pb(request.rollout_guard, reading) if request.HasField("rollout_guard") else None
        if request.validate_only:
            planned = await self._create_rate_card.plan(
                current_tenant(), card, reading.violations, guard, allow_past=request.allow_past_effective_time
            )
            return pb.CreateRateCardResponse(rate_card=rate_card_message(planned))
        if violation := check_request_id(request.request_id):
            reading.violations.append(violation)
        mutation = Request(current_tenant(), request.request_id, _fingerprint(request))
        stored = await self._create_rate_card(
            mutation, card, reading.violations, guard, allow_past=request.allow_past_effective_time
        )
        return pb.CreateRateCardResponse(rate_card=rate_card_to_pb(stored))

    async def GetRateCard(self, request: pb.GetRateCardRequest, context: Context) -> pb.GetRateCardResponse:
        rate_card_id = require.resource_id(request.rate_card_id, "rate_card_id")
        stored = await self._get_rate_cards.get(current_tenant(), rate_card_id, request.version)
        return pb.GetRateCardResponse(rate_card=rate_card_to_pb(stored))

    async def ListRateCards(self, request: pb.ListRateCardsRequest, context: Context) -> pb.ListRateCardsResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        found = await self._get_rate_cards.list_newest(current_tenant(), cursor[0] if cursor else "", size + 1)
        page = found[:size]
        return pb.ListRateCardsResponse(
            rate_cards=[rate_card_to_pb(stored) for stored in page],
            next_page_token=next_page_token(request, [page[-1].card.rate_card_id]) if len(found) > size else "",
        )


def _fingerprint(request: pb.CreateRateCardRequest) -> bytes:
    """Digest of what the client asked for; what the server sets is ignored there too."""
    meaning = pb.CreateRateCardRequest(rate_card=request.rate_card)
    if request.HasField("rollout_guard"):
        meaning.rollout_guard.CopyFrom(request.rollout_guard)
    meaning.allow_past_effective_time = request.allow_past_effective_time
    meaning.rate_card.ClearField("override_reason")
    meaning.rate_card.ClearField("version")
    meaning.rate_card.ClearField("create_time")
    return hashlib.sha256(meaning.SerializeToString(deterministic=True)).digest()
