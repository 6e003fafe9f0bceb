"""Billing's periods as rating reads them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libs.periods import Period
from services.rating.wire.billing_periods import billing_period_from_pb
from services.rating.wire.times import period_to_pb
from steelyard.billing.v1 import billing_period_pb2

MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def state(time_zone: str = "") -> billing_period_pb2.BillingPeriodState:
    return billing_period_pb2.BillingPeriodState(
        subscription_id="sub",
        customer_id="cust",
        rate_card_id="card",
        period=period_to_pb(MARCH),
        version=1,
        time_zone=time_zone,
    )


class TestBillingPeriods:
    def test_have_the_zone_that_billing_says(self) -> None:
        assert billing_period_from_pb("acme", state(time_zone="Europe/Berlin")).time_zone == "Europe/Berlin"

    def test_are_parts_of_the_whole_ones_that_billing_says(self) -> None:
        part, whole = state(), Period(datetime(2026, 2, 15, tzinfo=UTC), MARCH.end)
        part.whole_period.CopyFrom(period_to_pb(whole))

        assert billing_period_from_pb("acme", part).whole == whole
        assert billing_period_from_pb("acme", state()).whole is None

    def test_that_are_impossible_are_refused(self) -> None:
        part = state()
        part.whole_period.CopyFrom(period_to_pb(MARCH))
        part.whole_period.start.CopyFrom(part.whole_period.end)

        with pytest.raises(ValueError, match="end after"):
            billing_period_from_pb("acme", part)

    def test_of_older_versions_are_in_utc(self) -> None:
        assert billing_period_from_pb("acme", state()).time_zone == "UTC"

    def test_are_in_the_currency_that_billing_says(self) -> None:
        euros = state()
        euros.currency = "EUR"

        assert billing_period_from_pb("acme", euros).currency == "EUR"
        assert billing_period_from_pb("acme", state()).currency == ""
