"""What a charge says, as bytes: stored, compared and published without being decoded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import RoundingMode
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.period_charge import PeriodCharge, charges_of_period
from services.rating.domain.prices import Graduated, PerUnit, PriceModel
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import MeterUsage, UsageDigest
from services.rating.wire.charges import (
    charge_bytes,
    charge_content,
    charge_from_content,
    charge_to_pb,
    charges_changed_bytes,
)
from steelyard.rating.v1 import charge_pb2
from tests.unit.rating.domain.prices import models, quantities, tier

START = datetime(2026, 3, 1, tzinfo=UTC)
PERIOD = BillingPeriod(PeriodKey("acme", "sub", START), START + timedelta(days=31), "cust", "card", 1)
TIERS = Graduated((tier("10", "0.10", "1"), tier(None, "0.050")))
PER_UNIT = PerUnit(Decimal("0.5"))


def _charge(model: PriceModel, quantity: str | Decimal, *, version: int = 1, included: str = "0") -> PeriodCharge:
    price = Price("tokens", model, meter_id="m", included_quantity=Decimal(included), rounding_mode=RoundingMode.UP)
    card = RateCard("card", version, "USD", None, (price,))
    usage = {"m": MeterUsage(UsageDigest(1, Decimal(quantity), 1, 1), "")}
    return charges_of_period(PERIOD, card, usage, {})[0]


def _decoded(charge: PeriodCharge) -> charge_pb2.Charge:
    return charge_pb2.Charge.FromString(charge_content(charge))


def test_it_names_all_that_a_consumer_needs_in_canonical_numbers() -> None:
    message = _decoded(_charge(TIERS, "1E+1"))

    assert (message.subscription_id, message.customer_id, message.price_id) == ("sub", "cust", "tokens")
    assert (message.period.start.ToDatetime(UTC), message.period.end.ToDatetime(UTC)) == (START, PERIOD.period_end)
    assert (message.currency, message.rate_card_id, message.rate_card_version) == ("USD", "card", 1)
    assert (message.quantity, message.amount, message.version, message.trace_parent) == ("10", "2", 0, "")
    assert list(message.parts) == [
        charge_pb2.ChargePart(
            kind="tier",
            from_quantity="0",
            up_to_quantity="10",
            quantity="10",
            unit_amount="0.1",
            flat_amount="1",
            amount="2",
        )
    ]


def test_bounds_that_do_not_exist_are_empty() -> None:
    part = _decoded(_charge(PER_UNIT, "2")).parts[0]

    assert (part.from_quantity, part.up_to_quantity) == ("", "")
    assert _decoded(_charge(TIERS, "11")).parts[1].up_to_quantity == ""


def test_version_trace_and_the_way_numbers_are_written_are_no_difference() -> None:
    content = charge_content(_charge(PER_UNIT, "10"))

    assert charge_content(_charge(PerUnit(Decimal("0.50")), "10.00")) == content
    assert charge_content(_charge(PER_UNIT, "10")._replace(version=9, trace_parent="t")) == content
    assert charge_content(_charge(PER_UNIT, "11")) != content
    assert charge_content(_charge(PER_UNIT, "10", version=2)) != content


def test_bytes_are_fixed() -> None:
    # A change here gives every charge a new version when it is rated next: raise ENGINE_VERSION.
    assert charge_content(_charge(PER_UNIT, "3", included="1")).hex() == (
        "0a037375621204637573741a100a060880838ecd0612060880c0b1ce06"  # sub, cust, period
        "2206746f6b656e732a06746f6b656e7332016d42035553445804620463617264680172"  # price and card
        "01314a0133520131"  # engine, quantity, amount
        "7a160a08696e636c756465642201312a01303201303a0130"
        "7a180a087065725f756e69742201322a03302e353201303a0131"
    )


@given(models, quantities, st.integers(1, 2**62), st.booleans(), st.text(max_size=60))
def test_it_goes_to_bytes_and_back(
    model: PriceModel, quantity: Decimal, version: int, withdrawn: bool, trace_parent: str
) -> None:
    charge = _charge(model, quantity)._replace(version=version, withdrawn=withdrawn, trace_parent=trace_parent)

    restored = charge_from_content(
        "acme", charge_content(charge), withdrawn=withdrawn, version=version, trace_parent=trace_parent
    )

    assert restored == charge
    assert charge_content(restored) == charge_content(charge)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_joined_bytes_are_the_message_of_the_charges(count: int) -> None:
    tiers = Graduated((*(tier(str(bound), "0.1") for bound in range(1, 60)), tier(None, "0.1")))  # Two bytes of length.
    charges = [
        _charge(tiers if number else PER_UNIT, "58.5")._replace(version=(1 << 40) + number, trace_parent=f"t{number}")
        for number in range(count)
    ]

    packed = charges_changed_bytes(
        "acme", [charge_bytes(charge_content(charge), charge.version, charge.trace_parent) for charge in charges]
    )

    expected = charge_pb2.ChargesChanged(tenant_id="acme", charges=[charge_to_pb(charge) for charge in charges])
    assert charge_pb2.ChargesChanged.FromString(packed) == expected
    assert [charge.version for charge in expected.charges] == [charge.version for charge in charges]
