"""SubscriptionService."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.errors import InvalidInput
from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.billing.domain.subscription import BillingAnchor
from services.billing.rpc import fields
from services.billing.usecases.cancel_subscription import CancelSubscription
from services.billing.usecases.change_rate_card import ChangeRateCard
from services.billing.usecases.create_subscription import CreateSubscription, SubscriptionOrder
from services.billing.usecases.get_subscriptions import GetSubscription, ListSubscriptions, SubscriptionView
from services.billing.usecases.request import Request
from services.billing.wire.common import period_to_pb, time_to_pb
from steelyard.billing.v1 import subscription_service_pb2, subscription_service_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ANCHORS = {
    subscription_service_pb2.BILLING_ANCHOR_ANNIVERSARY: BillingAnchor.ANNIVERSARY,
    subscription_service_pb2.BILLING_ANCHOR_CALENDAR: BillingAnchor.CALENDAR,
}
_ANCHORS_TO_PB = {anchor: value for value, anchor in _ANCHORS.items()}


@dataclass(frozen=True, slots=True)
class SubscriptionUseCases:
    create_subscription: CreateSubscription
    get_subscription: GetSubscription
    list_subscriptions: ListSubscriptions
    cancel_subscription: CancelSubscription
    change_rate_card: ChangeRateCard


class SubscriptionServicer(subscription_service_pb2_grpc.SubscriptionServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, use_cases: SubscriptionUseCases) -> None:
        self._do = use_cases

    async def CreateSubscription(
        self, request: subscription_service_pb2.CreateSubscriptionRequest, context: Context
    ) -> subscription_service_pb2.CreateSubscriptionResponse:
        order = _order_from_pb(request.subscription)
        meaning = (order, order.currency) if order.currency else (order,)
        view = await self._do.create_subscription(
            request=Request.of("CreateSubscription", request.request_id, *meaning),
            tenant_id=current_tenant(),
            order=order,
        )
        return subscription_service_pb2.CreateSubscriptionResponse(subscription=_subscription_to_pb(view))

    async def GetSubscription(
        self, request: subscription_service_pb2.GetSubscriptionRequest, context: Context
    ) -> subscription_service_pb2.GetSubscriptionResponse:
        subscription_id = fields.subscription_id(request.subscription_id)
        view = await self._do.get_subscription(tenant_id=current_tenant(), subscription_id=subscription_id)
        return subscription_service_pb2.GetSubscriptionResponse(subscription=_subscription_to_pb(view))

    async def ListSubscriptions(
        self, request: subscription_service_pb2.ListSubscriptionsRequest, context: Context
    ) -> subscription_service_pb2.ListSubscriptionsResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        views = await self._do.list_subscriptions(
            tenant_id=current_tenant(),
            customer_id=fields.customer_id(request.customer_id, optional=True),
            after=cursor[0] if cursor else "",
            limit=size + 1,
        )
        more = len(views) > size
        token = next_page_token(request, [views[size - 1].subscription.subscription_id]) if more else ""
        return subscription_service_pb2.ListSubscriptionsResponse(
            subscriptions=map(_subscription_to_pb, views[:size]), next_page_token=token
        )

    async def CancelSubscription(
        self, request: subscription_service_pb2.CancelSubscriptionRequest, context: Context
    ) -> subscription_service_pb2.CancelSubscriptionResponse:
        # Without a date the meaning is what it always was: a request may be repeated after an upgrade.
        meaning = (request.subscription_id, request.last_date) if request.last_date else (request.subscription_id,)
        view = await self._do.cancel_subscription(
            request=Request.of("CancelSubscription", request.request_id, *meaning),
            tenant_id=current_tenant(),
            subscription_id=request.subscription_id,
            last_date=_date(request.last_date, "last_date") if request.last_date else None,
        )
        return subscription_service_pb2.CancelSubscriptionResponse(subscription=_subscription_to_pb(view))

    async def ChangeRateCard(
        self, request: subscription_service_pb2.ChangeRateCardRequest, context: Context
    ) -> subscription_service_pb2.ChangeRateCardResponse:
        meaning = (request.subscription_id, request.rate_card_id, request.first_date)
        view = await self._do.change_rate_card(
            request=Request.of("ChangeRateCard", request.request_id, *meaning),
            tenant_id=current_tenant(),
            subscription_id=request.subscription_id,
            rate_card_id=request.rate_card_id,
            first_date=_date(request.first_date, "first_date") if request.first_date else None,
        )
        return subscription_service_pb2.ChangeRateCardResponse(subscription=_subscription_to_pb(view))


def _order_from_pb(message: subscription_service_pb2.Subscription) -> SubscriptionOrder:
    """:raises InvalidInput: if anchor or date cannot be read"""
    if message.billing_anchor not in _ANCHORS:
        raise InvalidInput.of("subscription.billing_anchor", "REQUIRED", "must be ANNIVERSARY or CALENDAR")
    return SubscriptionOrder(
        subscription_id=message.subscription_id,
        customer_id=message.customer_id,
        rate_card_id=message.rate_card_id,
        starts_on=_date(message.start_date, "subscription.start_date") if message.start_date else None,
        anchor=_ANCHORS[message.billing_anchor],
        currency=message.currency,
    )


def _date(text: str, field: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput.of(field, "INVALID_DATE", "must be a date, YYYY-MM-DD") from error


def _subscription_to_pb(view: SubscriptionView) -> subscription_service_pb2.Subscription:
    subscription = view.subscription
    return subscription_service_pb2.Subscription(
        subscription_id=subscription.subscription_id,
        customer_id=subscription.customer_id,
        rate_card_id=subscription.rate_card_id,
        start_date=subscription.starts_on.isoformat(),
        billing_anchor=_ANCHORS_TO_PB[subscription.anchor],
        current_period=period_to_pb(view.current_period),
        end_time=time_to_pb(subscription.ended_at),
        create_time=time_to_pb(subscription.created_at),
        currency=subscription.currency,
    )
