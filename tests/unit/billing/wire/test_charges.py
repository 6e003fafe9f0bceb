from __future__ import annotations

from decimal import Decimal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.money import RoundingMode
from services.billing.wire.charges import ChargeUnreadable, charge_from_pb, part_to_pb
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import charge_pb2, rate_card_pb2
from tests.unit.billing.fakes import utc


def a_message(**changes: object) -> charge_pb2.Charge:
    start = Timestamp()
    start.FromDatetime(utc(2026, 1, 1))
    fields = {
        "subscription_id": "sub-01",
        "period": period_pb2.Period(start=start),
        "price_id": "calls",
        "currency": "EUR",
        "quantity": "12345678901234567890.123456789012",
        "amount": "1234567890123456789012345678901234567890.123456789012345678901234",
        "rounding_mode": rate_card_pb2.ROUNDING_MODE_UP,
        "parts": [charge_pb2.ChargePart(kind="tier", from_quantity="0", amount="0.10")],
        "version": 7,
    }
    return charge_pb2.Charge(**{**fields, **changes})  # type: ignore[arg-type]


class TestCharge:
    def test_keeps_every_digit(self) -> None:
        charge = charge_from_pb(a_message())
        assert charge.quantity == Decimal("12345678901234567890.123456789012")
        assert charge.amount == Decimal("1234567890123456789012345678901234567890.123456789012345678901234")
        assert (charge.rounding_mode, charge.key.period_start) == (RoundingMode.UP, utc(2026, 1, 1))
        assert part_to_pb(charge.parts[0]) == a_message().parts[0]

    def test_unspecified_rounding_is_half_even(self) -> None:
        assert charge_from_pb(a_message(rounding_mode=0)).rounding_mode is RoundingMode.HALF_EVEN

    @pytest.mark.parametrize(
        "changes",
        [
            {"amount": "NaN"},
            {"quantity": ""},
            {"version": 0},
            {"version": -1},
            {"period": None},
            {"period": period_pb2.Period(start=Timestamp(seconds=2**60))},
            {"period": period_pb2.Period(start=Timestamp(nanos=-1))},
            {"rounding_mode": 99},
        ],
    )
    def test_that_makes_no_sense_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(ChargeUnreadable):
            charge_from_pb(a_message(**changes))
