"""Prices of windows and of times of day, over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.rating.wire.times import instant_to_pb
from steelyard.rating.v1 import charge_service_pb2 as charges_pb
from steelyard.rating.v1 import rate_card_pb2 as card_pb
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, key_of, per_unit, violations
from tests.component.rating.running import Running
from tests.component.rating.support import HOUR, MARCH, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


def hourly() -> card_pb.Price:
    price = per_unit("hourly")
    price.included_quantity = "2"
    price.per_window.size = card_pb.WINDOW_SIZE_HOUR
    return price


def by_time() -> card_pb.Price:
    band = card_pb.TimeBand(label="night", from_time="22:00", to_time="06:00", unit_amount="1")
    price = per_unit("by-time")
    price.time_of_day.CopyFrom(card_pb.TimeOfDayPrice(bands=[band], default_unit_amount="3"))
    return price


class TestWindowedCharges:
    async def test_are_published_and_explained_window_by_window(
        self, service: Running, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await cards.CreateRateCard(card_of(name, hourly(), by_time()), metadata=AS_ACME)
        await service.send_periods(billing_period(name, customer=name, card=name))
        await service.send_windows(window(8, customer=name), window(5, at=MARCH.start + 7 * HOUR, customer=name))
        published = await service.charge_when("hourly", "13", subscription=name)
        assert [(part.kind, part.label, part.quantity, part.amount) for part in published.parts] == [
            ("windows", "hours", "2", "0"),
            ("included", "", "4", "0"),
            ("per_unit", "", "9", "4.5"),
        ]

        request = charges_pb.ExplainChargeRequest(key=key_of(name), price_id="hourly")
        explained = await charges.ExplainCharge(request, metadata=AS_ACME)
        assert explained.charge == published
        assert [(found.start_time, found.quantity, found.amount) for found in explained.windows] == [
            (instant_to_pb(MARCH.start), "8", "3"),
            (instant_to_pb(MARCH.start + 7 * HOUR), "5", "1.5"),
        ]
        assert not explained.more_windows

        request.windows_after.CopyFrom(explained.windows[0].start_time)
        assert [found.amount for found in (await charges.ExplainCharge(request, metadata=AS_ACME)).windows] == ["1.5"]

        request = charges_pb.ExplainChargeRequest(key=key_of(name), price_id="by-time")
        explained = await charges.ExplainCharge(request, metadata=AS_ACME)
        assert {part.label: part.amount for part in explained.charge.parts} == {"night": "8", "other": "15"}
        assert len(explained.windows) == 0

    async def test_are_not_previewed_from_bare_quantities(
        self, cards: RateCardServiceAsyncStub, charges: ChargeServiceAsyncStub, name: str
    ) -> None:
        await cards.CreateRateCard(card_of(name, per_unit(), by_time()), metadata=AS_ACME)
        request = charges_pb.PreviewChargeRequest(rate_card_id=name, quantities={"tokens": "7"})
        error = await failure(charges.PreviewCharge(request, metadata=AS_ACME))
        assert violations(error) == [("rate_card_id", "PRICED_BY_WINDOW")]

    async def test_what_cannot_be_right_is_refused_field_by_field(
        self, cards: RateCardServiceAsyncStub, name: str
    ) -> None:
        fee = card_pb.Price(price_id="fee", flat=card_pb.FlatPrice(amount="20"))
        fee.per_window.size = card_pb.WINDOW_SIZE_DAY
        wrong = by_time()
        wrong.time_of_day.bands[0].to_time = "06:10"
        wrong.time_of_day.time_zone = "Mars/Olympus"
        unsized = per_unit("unsized")
        unsized.per_window.empty = card_pb.EMPTY_WINDOWS_PRICE
        error = await failure(cards.CreateRateCard(card_of(name, fee, wrong, unsized), metadata=AS_ACME))
        assert sorted(violations(error)) == [
            ("prices[0].per_window", "NOT_ALLOWED"),
            ("prices[1].time_of_day.bands[0].to_time", "INVALID_TIME"),
            ("prices[1].time_of_day.time_zone", "UNKNOWN_TIME_ZONE"),
            ("prices[2].per_window.size", "REQUIRED"),
        ]
