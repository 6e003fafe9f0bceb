"""Billing periods of billing."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from libs.ids import check_tenant_id
from libs.messaging import Delivery, UnreadableMessage
from services.rating.domain.billing_period import BillingPeriod
from services.rating.usecases.accept_billing_periods import AcceptBillingPeriods
from services.rating.wire.billing_periods import billing_period_from_pb
from steelyard.billing.v1 import billing_period_pb2

DURABLE = "rating-billing_period-accept"
SUBJECT = "billing.billing_period.changed.v1"

BATCH = 20
"""Messages per transaction; each has up to 500 periods."""


class BillingPeriodConsumer:
    """Accepts all billing periods of a fetched batch."""

    def __init__(self, accept_billing_periods: AcceptBillingPeriods) -> None:
        self._accept_billing_periods = accept_billing_periods

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """Handle billing periods.

        :raises UnreadableMessage: if a message has none
        :raises ServiceError: if ingest does not answer
        """
        periods: list[BillingPeriod] = []
        for delivery in deliveries:
            try:
                periods += _periods(delivery.data)
            except (DecodeError, ValueError, OverflowError) as error:
                raise UnreadableMessage(f"{delivery.msg_id} on {delivery.subject}: {error}") from error
        await self._accept_billing_periods(periods)


def _periods(data: bytes) -> list[BillingPeriod]:
    changed = billing_period_pb2.BillingPeriodsChanged.FromString(data)
    if violation := check_tenant_id(changed.tenant_id):
        raise ValueError(violation.description)
    return [billing_period_from_pb(changed.tenant_id, state) for state in changed.billing_periods]
