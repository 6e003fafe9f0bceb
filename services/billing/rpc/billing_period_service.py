"""BillingPeriodService."""

from __future__ import annotations

from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.billing.domain.charge import PeriodKey
from services.billing.rpc import fields
from services.billing.usecases.list_billing_periods import ListBillingPeriods
from services.billing.wire.billing_periods import billing_period_to_pb
from services.billing.wire.common import time_from_pb
from steelyard.billing.v1 import billing_period_service_pb2, billing_period_service_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

_PAGE_SIZE = 1_000


class BillingPeriodServicer(billing_period_service_pb2_grpc.BillingPeriodServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, list_billing_periods: ListBillingPeriods) -> None:
        self._list_billing_periods = list_billing_periods

    async def ListBillingPeriods(
        self, request: billing_period_service_pb2.ListBillingPeriodsRequest, context: Context
    ) -> billing_period_service_pb2.ListBillingPeriodsResponse:
        size, cursor = page_size(request, default=_PAGE_SIZE, maximum=_PAGE_SIZE), page_cursor(request, 1)
        ending_after = None
        if request.HasField("ending_after_time"):
            ending_after = time_from_pb(request.ending_after_time, "ending_after_time")
        found = await self._list_billing_periods(
            tenant_id=current_tenant(),
            subscription_id=fields.subscription_id(request.subscription_id, optional=True),
            ending_after=ending_after,
            after=PeriodKey.parse(cursor[0]) if cursor else None,
            limit=size + 1,
        )
        token = next_page_token(request, [str(found[size - 1].key)]) if len(found) > size else ""
        return billing_period_service_pb2.ListBillingPeriodsResponse(
            billing_periods=map(billing_period_to_pb, found[:size]), next_page_token=token
        )
