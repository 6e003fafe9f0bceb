"""Billing's periods over gRPC."""

from __future__ import annotations

from datetime import datetime

import grpc

from libs.errors import Unavailable
from libs.rpc import as_tenant, typed_errors
from services.rating.domain.billing_period import BillingPeriod
from services.rating.wire.billing_periods import billing_period_from_pb
from services.rating.wire.times import instant_to_pb
from steelyard.billing.v1 import billing_period_service_pb2, billing_period_service_pb2_grpc


class GrpcBillingPeriods:
    """Asks billing's api role. The channel has the internal key; each call names its tenant."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: billing_period_service_pb2_grpc.BillingPeriodServiceAsyncStub = (
            billing_period_service_pb2_grpc.BillingPeriodServiceStub(channel)
        )

    async def ending_after(self, tenant_id: str, subscription_id: str, at: datetime) -> list[BillingPeriod]:
        """Return the periods of a subscription that end after an instant, at most the first thousand.

        :raises ServiceError: if billing does not answer, or not with billing periods
        """
        request = billing_period_service_pb2.ListBillingPeriodsRequest(
            subscription_id=subscription_id, ending_after_time=instant_to_pb(at)
        )
        try:
            with typed_errors():
                page = await self._stub.ListBillingPeriods(request, metadata=as_tenant(tenant_id))
            return [billing_period_from_pb(tenant_id, state) for state in page.billing_periods]
        except grpc.aio.AioRpcError as error:  # A fault of billing's.
            raise Unavailable(f"billing answered {error.code().name}") from error
        except (ValueError, OverflowError) as error:
            raise Unavailable(f"billing answered with something else than billing periods: {error}") from error
