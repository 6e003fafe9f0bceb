"""EstimateEvent as it runs, with ingest played by a gRPC server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from libs.errors import InvalidInput, Unavailable
from services.rating.wire.times import instant_to_pb
from steelyard.ingest.v1 import ingest_service_pb2, measuring_service_pb2, usage_event_pb2
from steelyard.rating.v1 import estimate_service_pb2 as pb
from steelyard.rating.v1.estimate_service_pb2_grpc import EstimateServiceStub
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, fee, per_unit, tenant, violations
from tests.component.rating.running import Running
from tests.component.rating.support import MARCH, TENANT, TOKENS, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.estimate_service_pb2_grpc import EstimateServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub

AT = MARCH.start + timedelta(days=3)


@pytest.fixture
def estimates(service: Running) -> EstimateServiceAsyncStub:
    return EstimateServiceStub(service.channel)


def request(customer: str) -> pb.EstimateEventRequest:
    event = usage_event_pb2.UsageEvent(event_id="e", source="s", event_type="t", customer_id=customer)
    event.event_time.FromDatetime(AT)
    event.properties["n"] = "20.5"
    return pb.EstimateEventRequest(event=event)


def measuring(
    value: str = "20.50", *, additive: bool = True, meter: str = TOKENS
) -> measuring_service_pb2.EventMeasurement:
    measured = measuring_service_pb2.MeterMeasurement(
        meter_id=meter, value=value, unit="By", dimensions={"region": "eu"}, additive=additive
    )
    return measuring_service_pb2.EventMeasurement(measurements=[measured], window_start_time=instant_to_pb(AT))


async def test_the_answer_names_what_is_measured_and_what_it_adds(
    service: Running, cards: RateCardServiceAsyncStub, estimates: EstimateServiceAsyncStub, name: str
) -> None:
    await cards.CreateRateCard(card_of(name, fee(), per_unit()), metadata=AS_ACME)
    await service.send_periods(billing_period(name, customer=name, card=name))
    await service.send_windows(window(10, customer=name))
    await service.charge_when("tokens", "10", subscription=name)
    watermark = datetime(2026, 3, 20, tzinfo=UTC)
    await service.send_watermark(watermark)
    await service.until_watermark()
    service.ingest_server.measurement = measuring()

    found = await estimates.EstimateEvent(request(name), metadata=AS_ACME)

    assert service.ingest_server.measured[-1] == (TENANT, request(name).event)
    [quantity], [period] = found.quantities, found.periods
    assert quantity == pb.EstimatedQuantity(meter_id=TOKENS, quantity="20.5", unit="By", dimensions={"region": "eu"})
    assert (period.subscription_id, period.rate_card_id, period.rate_card_version) == (name, name, 1)
    assert (period.currency, period.marginal_amount, period.problem) == ("USD", "10.25", "")
    assert list(period.lines) == [
        pb.EstimatedLine(
            price_id="tokens",
            display_name="tokens",
            meter_id=TOKENS,
            quantity_before="10",
            quantity_after="30.5",
            amount_before="5",
            amount_after="15.25",
            marginal_amount="10.25",
        )
    ]
    assert found.watermark_time == instant_to_pb(watermark)


async def test_a_line_that_cannot_be_estimated_has_no_amount(
    service: Running, cards: RateCardServiceAsyncStub, estimates: EstimateServiceAsyncStub, name: str
) -> None:
    await cards.CreateRateCard(card_of(name), metadata=AS_ACME)
    await service.send_periods(billing_period(name, customer=name, card=name))
    await service.charge_when("tokens", "0", subscription=name)
    service.ingest_server.measurement = measuring(additive=False)

    [period] = (await estimates.EstimateEvent(request(name), metadata=AS_ACME)).periods

    [line] = period.lines
    assert line.not_estimable == pb.NOT_ESTIMABLE_REASON_NOT_ADDITIVE
    assert (line.amount_before, line.amount_after, line.marginal_amount, line.quantity_after) == ("0", "", "", "")
    assert period.marginal_amount == ""
    assert (await estimates.EstimateEvent(request(name), metadata=tenant("initech"))).periods == []


async def test_a_wrong_event_is_refused_with_its_field(service: Running, estimates: EstimateServiceAsyncStub) -> None:
    problem = ingest_service_pb2.EventProblem(field="properties.n", reason="NOT_A_NUMBER", description="must be one")
    service.ingest_server.measurement = measuring_service_pb2.EventMeasurement(problem=problem)

    refused = await failure(estimates.EstimateEvent(request("c"), metadata=AS_ACME))
    missing = await failure(estimates.EstimateEvent(pb.EstimateEventRequest(), metadata=AS_ACME))

    assert violations(refused) == [("event.properties.n", "NOT_A_NUMBER")]
    assert violations(missing) == [("event", "REQUIRED")]
    assert isinstance(refused, InvalidInput)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "x", ""])
async def test_an_impossible_answer_of_ingest_is_no_estimate(
    service: Running, estimates: EstimateServiceAsyncStub, value: str
) -> None:
    service.ingest_server.measurement = measuring(value)

    assert isinstance(await failure(estimates.EstimateEvent(request("c"), metadata=AS_ACME)), Unavailable)


async def test_without_ingest_there_is_no_estimate(service: Running, estimates: EstimateServiceAsyncStub) -> None:
    service.ingest.down = True
    try:
        assert isinstance(await failure(estimates.EstimateEvent(request("c"), metadata=AS_ACME)), Unavailable)
    finally:
        service.ingest.down = False
