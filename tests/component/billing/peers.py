"""Rating and payments as small gRPC servers, and the other services as readers of the directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from nats.aio.client import Client

from libs.messaging import DirectoryReader
from steelyard.payments.v1 import payment_service_pb2, payment_service_pb2_grpc
from steelyard.rating.v1 import (
    charge_pb2,
    charge_service_pb2,
    charge_service_pb2_grpc,
    rate_card_pb2,
    rate_card_service_pb2,
    rate_card_service_pb2_grpc,
)

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


class RatingPeer(charge_service_pb2_grpc.ChargeServiceServicer, rate_card_service_pb2_grpc.RateCardServiceServicer):
    """Knows the card "standard" and the charges it is given."""

    def __init__(self) -> None:
        self.charges: list[charge_pb2.Charge] = []
        self.further_currencies: list[str] = []
        self.live: list[charge_service_pb2.CurrentCharges] | None = None
        """What costs now; None: it cannot tell, as before it could."""
        self.hangs = False

    async def GetRateCard(
        self, request: rate_card_service_pb2.GetRateCardRequest, context: Context
    ) -> rate_card_service_pb2.GetRateCardResponse:
        if request.rate_card_id != "standard":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such card")
        further = [rate_card_pb2.CurrencyPrices(currency=currency) for currency in self.further_currencies]
        card = rate_card_pb2.RateCard(rate_card_id="standard", version=1, currency="EUR", further_currencies=further)
        return rate_card_service_pb2.GetRateCardResponse(rate_card=card)

    async def GetCharges(
        self, request: charge_service_pb2.GetChargesRequest, context: Context
    ) -> charge_service_pb2.GetChargesResponse:
        return charge_service_pb2.GetChargesResponse(charges=self._of(request.key))

    async def GetCurrentCharges(
        self, request: charge_service_pb2.GetCurrentChargesRequest, context: Context
    ) -> charge_service_pb2.GetCurrentChargesResponse:
        if self.hangs:
            await asyncio.sleep(60)
        if self.live is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not yet")
        return charge_service_pb2.GetCurrentChargesResponse(periods=self.live)

    async def ConfirmCharges(
        self, request: charge_service_pb2.ConfirmChargesRequest, context: Context
    ) -> charge_service_pb2.ConfirmChargesResponse:
        results = [
            charge_service_pb2.ConfirmedCharges(key=key, confirmed=True, charges=self._of(key)) for key in request.keys
        ]
        return charge_service_pb2.ConfirmChargesResponse(results=results)

    def _of(self, key: charge_service_pb2.BillingPeriodKey) -> list[charge_pb2.Charge]:
        return [
            charge
            for charge in self.charges
            if (charge.subscription_id, charge.period.start) == (key.subscription_id, key.period_start)
        ]


class PaymentsPeer(payment_service_pb2_grpc.PaymentServiceServicer):
    """Cancels every payment."""

    async def CancelPayment(
        self, request: payment_service_pb2.CancelPaymentRequest, context: Context
    ) -> payment_service_pb2.CancelPaymentResponse:
        return payment_service_pb2.CancelPaymentResponse()


@asynccontextmanager
async def serving(rating: RatingPeer) -> AsyncIterator[str]:
    """Both peers on one port; yields host:port."""
    server = grpc.aio.server()
    charge_service_pb2_grpc.add_ChargeServiceServicer_to_server(rating, server)
    rate_card_service_pb2_grpc.add_RateCardServiceServicer_to_server(rating, server)
    payment_service_pb2_grpc.add_PaymentServiceServicer_to_server(PaymentsPeer(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def confirming(nats: Client, *services: str) -> AsyncIterator[None]:
    """Services that read the directory and confirm what they have read."""
    stopping = asyncio.Event()
    readers = [
        DirectoryReader(nats.jetstream(), nats, service=name, instance="1", subjects=["directory.clock.>"])
        for name in services
    ]
    tasks = [asyncio.create_task(reader.run(stopping)) for reader in readers]
    try:
        yield
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
