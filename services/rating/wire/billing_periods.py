"""Billing's periods on the wire."""

from __future__ import annotations

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.wire.times import period_from_pb
from steelyard.billing.v1 import billing_period_pb2


def billing_period_from_pb(tenant_id: str, state: billing_period_pb2.BillingPeriodState) -> BillingPeriod:
    """Return a billing period.

    :raises ValueError, OverflowError: if it has no subscription or version, or its period is impossible
    """
    period = period_from_pb(state.period)
    if not state.subscription_id or state.version <= 0:
        raise ValueError(f"a billing period lacks subscription or version: {state}")
    return BillingPeriod(
        PeriodKey(tenant_id, state.subscription_id, period.start),
        period.end,
        state.customer_id,
        state.rate_card_id,
        state.version,
        state.time_zone or "UTC",
        _whole(state),
        state.currency,
    )


def _whole(state: billing_period_pb2.BillingPeriodState) -> Period | None:
    return period_from_pb(state.whole_period) if state.HasField("whole_period") else None
