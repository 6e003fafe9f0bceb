"""Billing's periods as rating reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from libs.periods import Period
from services.rating.wire.billing_periods import billing_period_from_pb
from services.rating.wire.times import period_to_pb
from steelyard.billing.v1 import billing_period_pb2

MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def state(**fields: str) -> billing_period_pb2.BillingPeriodState:
    return billing_period_pb2.BillingPeriodState(
        subscription_id="sub", customer_id="cust", rate_card_id="card", period=period_to_pb(MARCH), version=1, **fields
    )


class TestBillingPeriods:
    def test_have_the_zone_that_billing_says(self) -> None:
        assert billing_period_from_pb("acme", state(time_zone="Europe/Berlin")).time_zone == "Europe/Berlin"

    def test_of_older_versions_are_in_utc(self) -> None:
        assert billing_period_from_pb("acme", state()).time_zone == "UTC"
