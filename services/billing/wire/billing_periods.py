"""Billing periods as messages."""

from __future__ import annotations

from services.billing.domain.billing_period import BillingPeriod
from services.billing.wire.common import period_to_pb
from steelyard.billing.v1 import billing_period_pb2


def billing_period_to_pb(item: BillingPeriod) -> billing_period_pb2.BillingPeriodState:
    """The state of a billing period."""
    return billing_period_pb2.BillingPeriodState(
        subscription_id=item.subscription_id,
        customer_id=item.customer_id,
        rate_card_id=item.rate_card_id,
        period=period_to_pb(item.period),
        version=item.version,
        time_zone=item.time_zone,
        whole_period=period_to_pb(item.whole) if item.whole else None,
        currency=item.currency,
    )
