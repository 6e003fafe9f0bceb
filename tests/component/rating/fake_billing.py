"""Billing's api role as a gRPC server, answering from tests' data."""

from __future__ import annotations

from datetime import UTC
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.rpc.auth import TENANT_HEADER
from services.rating.domain.billing_period import BillingPeriod
from services.rating.wire.times import period_to_pb
from steelyard.billing.v1 import billing_period_pb2, billing_period_service_pb2
from steelyard.billing.v1.billing_period_service_pb2_grpc import (
    BillingPeriodServiceServicer,
    add_BillingPeriodServiceServicer_to_server,
)
from tests.component.rating.support import FakeBilling

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


def state_to_pb(period: BillingPeriod) -> billing_period_pb2.BillingPeriodState:
    return billing_period_pb2.BillingPeriodState(
        subscription_id=period.key.subscription_id,
        customer_id=period.customer_id,
        rate_card_id=period.rate_card_id,
        period=period_to_pb(period.period),
        version=period.version,
        time_zone=period.time_zone,
        whole_period=period_to_pb(period.whole) if period.whole else None,
        currency=period.currency,
    )


class FakeBillingServer(BillingPeriodServiceServicer):
    """`unreadable` makes it answer with periods that cannot be."""

    def __init__(self, data: FakeBilling) -> None:
        self._data = data
        self._server = grpc.aio.server()
        add_BillingPeriodServiceServicer_to_server(self, self._server)
        self.unreadable = False

    async def start(self) -> str:
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    async def ListBillingPeriods(
        self, request: billing_period_service_pb2.ListBillingPeriodsRequest, context: Context
    ) -> billing_period_service_pb2.ListBillingPeriodsResponse:
        tenant = str(dict(context.invocation_metadata() or ())[TENANT_HEADER])
        if self._data.down:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        after = request.ending_after_time.ToDatetime(tzinfo=UTC)
        states = [state_to_pb(item) for item in self._data.known_after(tenant, request.subscription_id, after)]
        if self.unreadable:
            states = [billing_period_pb2.BillingPeriodState(subscription_id=request.subscription_id)]
        return billing_period_service_pb2.ListBillingPeriodsResponse(billing_periods=states)
