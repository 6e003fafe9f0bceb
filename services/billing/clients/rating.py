"""Rating over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import grpc

from libs.errors import InvalidInput, NotFound, Unavailable
from libs.rpc import as_tenant, remaining_s, typed_errors
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.rate_card_facts import RateCardFacts
from services.billing.usecases.ports import Confirmed, LiveCharges
from services.billing.wire.charges import ChargeUnreadable, charge_from_pb
from services.billing.wire.common import period_from_pb, time_from_pb, time_to_pb
from steelyard.rating.v1 import charge_service_pb2, charge_service_pb2_grpc, rate_card_service_pb2
from steelyard.rating.v1 import rate_card_service_pb2_grpc as rate_card_grpc


class GrpcRating:
    """See services.billing.usecases.ports.Rating."""

    def __init__(
        self, channel: grpc.aio.Channel, *, confirm_timeout_s: float = 20.0, live_timeout_s: float = 1.0
    ) -> None:
        self._cards = rate_card_grpc.RateCardServiceStub(channel)
        self._charges = charge_service_pb2_grpc.ChargeServiceStub(channel)
        self._confirm_timeout_s = confirm_timeout_s
        self._live_timeout_s = live_timeout_s

    async def rate_card(self, tenant_id: str, rate_card_id: str) -> RateCardFacts:
        request = rate_card_service_pb2.GetRateCardRequest(rate_card_id=rate_card_id)
        with typed_errors():
            response = await self._cards.GetRateCard(request, metadata=as_tenant(tenant_id))
        card = response.rate_card
        further = tuple(item.currency for item in card.further_currencies)
        return RateCardFacts(card.currency, card.HasField("archive_time"), further)

    async def confirm_charges(self, tenant_id: str, keys: Sequence[PeriodKey]) -> list[Confirmed]:
        request = charge_service_pb2.ConfirmChargesRequest(keys=map(_key_to_pb, keys))
        try:
            with typed_errors():
                response = await self._charges.ConfirmCharges(
                    request, metadata=as_tenant(tenant_id), timeout=self._confirm_timeout_s
                )
        except grpc.aio.AioRpcError as error:  # A fault of rating's: not ours, and perhaps gone the next time.
            raise Unavailable(f"rating answered {error.code().name}") from error
        if len(response.results) != len(keys):
            # A fault of rating's too, and no reason to stop the billing of everybody.
            raise Unavailable(f"rating answered {len(response.results)} of {len(keys)} periods")
        return [_confirmed(key, result) for key, result in zip(keys, response.results, strict=True)]

    async def charges(self, tenant_id: str, key: PeriodKey) -> list[Charge] | None:
        request = charge_service_pb2.GetChargesRequest(key=_key_to_pb(key))
        try:
            with typed_errors():
                response = await self._charges.GetCharges(request, metadata=as_tenant(tenant_id))
        except NotFound:
            return None
        return [charge_from_pb(charge) for charge in response.charges]

    async def live_charges(self, tenant_id: str, customer_id: str, at: datetime) -> list[LiveCharges]:
        request = charge_service_pb2.GetCurrentChargesRequest(customer_id=customer_id, at_time=time_to_pb(at))
        # Half of the caller's time is kept for what is known without rating.
        left_s = remaining_s()
        timeout_s = self._live_timeout_s if left_s is None else min(self._live_timeout_s, left_s / 2)
        try:
            with typed_errors():
                response = await self._charges.GetCurrentCharges(
                    request, metadata=as_tenant(tenant_id), timeout=timeout_s
                )
            return [_live(period) for period in response.periods]
        except (grpc.aio.AioRpcError, ChargeUnreadable, InvalidInput) as error:  # Of before, or ill.
            raise Unavailable(f"rating cannot tell: {error}") from error


def _live(answered: charge_service_pb2.CurrentCharges) -> LiveCharges:
    period = period_from_pb(answered.period, "period")
    key = PeriodKey(answered.key.subscription_id, time_from_pb(answered.key.period_start, "period_start"))
    return LiveCharges(key, period, [charge_from_pb(charge, lowest_version=0) for charge in answered.charges])


def _key_to_pb(key: PeriodKey) -> charge_service_pb2.BillingPeriodKey:
    return charge_service_pb2.BillingPeriodKey(
        subscription_id=key.subscription_id, period_start=time_to_pb(key.period_start)
    )


def _confirmed(key: PeriodKey, result: charge_service_pb2.ConfirmedCharges) -> Confirmed:
    """What rating said of the period that was asked for at this place of the request."""
    answered = PeriodKey(result.key.subscription_id, time_from_pb(result.key.period_start, "period_start"))
    if answered != key:
        return Confirmed(key, (), f"rating answered for {answered}")
    if not result.confirmed:
        return Confirmed(key, (), result.reason or "NOT_CONFIRMED")
    try:
        charges = tuple(charge_from_pb(charge) for charge in result.charges)
    except ChargeUnreadable as error:
        return Confirmed(key, (), str(error))
    if any(charge.key != key for charge in charges):
        return Confirmed(key, (), "rating answered with charges of another period")
    if not result.HasField("period"):
        return Confirmed(key, charges)
    try:
        whole = period_from_pb(result.whole_period, "whole_period") if result.HasField("whole_period") else None
        return Confirmed(key, charges, period=period_from_pb(result.period, "period"), whole=whole)
    except InvalidInput as error:
        return Confirmed(key, (), f"rating answered with an impossible period: {error}")
