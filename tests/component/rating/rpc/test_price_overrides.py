"""PriceOverrideService."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.rating.wire.times import instant_to_pb
from steelyard.rating.v1 import price_override_service_pb2 as pb
from steelyard.rating.v1.price_override_service_pb2_grpc import PriceOverrideServiceStub
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, fee, per_unit, tenant, violations
from tests.component.rating.running import Running
from tests.component.rating.support import APRIL, MARCH, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.price_override_service_pb2_grpc import PriceOverrideServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


@pytest.fixture
def overrides(service: Running) -> PriceOverrideServiceAsyncStub:
    return PriceOverrideServiceStub(service.channel)


@pytest.fixture
async def card(cards: RateCardServiceAsyncStub, name: str) -> str:
    await cards.CreateRateCard(card_of(name, per_unit(), fee()), metadata=AS_ACME)
    return name


def agreed(card: str, override_id: str = "", *, end: datetime | None = None) -> pb.CreatePriceOverrideRequest:
    override = pb.PriceOverride(
        override_id=override_id or card,
        rate_card_id=card,
        customer_id=card,
        prices=[per_unit(amount="0.25")],
        effective_time=instant_to_pb(MARCH.start),
        end_time=None if end is None else instant_to_pb(end),
        reason="contract",
    )
    return pb.CreatePriceOverrideRequest(request_id=str(uuid.uuid4()), price_override=override)


async def test_prices_a_customer_at_once_and_until_its_end(
    service: Running, overrides: PriceOverrideServiceAsyncStub, card: str
) -> None:
    await service.send_periods(billing_period(card, customer=card, card=card))
    await service.send_windows(window(8, customer=card))
    await service.charge_when("tokens", "8", subscription=card)

    request = agreed(card)
    created = (await overrides.CreatePriceOverride(request, metadata=AS_ACME)).price_override
    again = (await overrides.CreatePriceOverride(request, metadata=AS_ACME)).price_override
    got = (
        await overrides.GetPriceOverride(pb.GetPriceOverrideRequest(override_id=card), metadata=AS_ACME)
    ).price_override

    assert created == again == got
    assert created.HasField("create_time")
    created.ClearField("create_time")
    assert created.prices[0].per_unit.unit_amount == "0.25"

    end = pb.EndPriceOverrideRequest(
        request_id=str(uuid.uuid4()), override_id=card, end_time=instant_to_pb(APRIL.start)
    )
    ended = (await overrides.EndPriceOverride(end, metadata=AS_ACME)).price_override
    assert ended.end_time == instant_to_pb(APRIL.start)


async def test_lists_by_pages_what_is_the_tenants_own(overrides: PriceOverrideServiceAsyncStub, card: str) -> None:
    for letter in "abc":
        await overrides.CreatePriceOverride(agreed(card, f"{card}-{letter}"), metadata=AS_ACME)

    request = pb.ListPriceOverridesRequest(page_size=2, rate_card_id=card)
    first = await overrides.ListPriceOverrides(request, metadata=AS_ACME)
    request.page_token = first.next_page_token
    second = await overrides.ListPriceOverrides(request, metadata=AS_ACME)
    request.page_token = ""

    assert [item.override_id[-1] for item in (*first.price_overrides, *second.price_overrides)] == ["a", "b", "c"]
    assert not (await overrides.ListPriceOverrides(request, metadata=tenant("other"))).price_overrides


class TestRefused:
    async def test_by_field(self, overrides: PriceOverrideServiceAsyncStub, card: str) -> None:
        request = agreed(card, "a b", end=MARCH.start)
        request.price_override.ClearField("customer_id")
        request.price_override.prices[0].per_unit.unit_amount = "1e9999"
        request.request_id = "none"

        found = violations(await failure(overrides.CreatePriceOverride(request, metadata=AS_ACME)))

        assert dict(found).keys() == {
            "request_id",
            "price_override.override_id",
            "price_override.target",
            "price_override.customer_id",
            "price_override.end_time",
            "prices[0].per_unit.unit_amount",
        }

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.EndPriceOverrideRequest(request_id=str(uuid.uuid4()), override_id="o"), "end_time"),
            (
                pb.EndPriceOverrideRequest(
                    request_id=str(uuid.uuid4()), override_id="o", end_time=Timestamp(seconds=10**12)
                ),
                "end_time",
            ),
            (pb.EndPriceOverrideRequest(override_id="o", end_time=instant_to_pb(MARCH.start)), "request_id"),
            (pb.EndPriceOverrideRequest(end_time=instant_to_pb(MARCH.start)), "override_id"),
        ],
        ids=["no-end", "impossible-end", "no-request-id", "no-override"],
    )
    async def test_an_end_by_field(
        self, overrides: PriceOverrideServiceAsyncStub, request_: pb.EndPriceOverrideRequest, field: str
    ) -> None:
        found = violations(await failure(overrides.EndPriceOverride(request_, metadata=AS_ACME)))
        assert [name for name, _ in found] == [field]

    async def test_of_what_is_not_there(self, overrides: PriceOverrideServiceAsyncStub, card: str) -> None:
        other = tenant("other")
        await overrides.CreatePriceOverride(agreed(card), metadata=AS_ACME)
        error = await failure(overrides.GetPriceOverride(pb.GetPriceOverrideRequest(override_id=card), metadata=other))
        assert error.reason == "PRICE_OVERRIDE_NOT_FOUND"
