"""SimulationService."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.rating.wire.times import period_to_pb
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import rate_card_service_pb2 as cards_pb
from steelyard.rating.v1 import simulation_service_pb2 as pb
from steelyard.rating.v1.simulation_service_pb2_grpc import SimulationServiceStub
from tests.component.rating.rpc.support import AS_ACME, card_of, failure, fee, per_unit, violations
from tests.component.rating.running import Running
from tests.component.rating.support import APRIL, MARCH, billing_period, window

if TYPE_CHECKING:
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub
    from steelyard.rating.v1.simulation_service_pb2_grpc import SimulationServiceAsyncStub


@pytest.fixture
def simulations(service: Running) -> SimulationServiceAsyncStub:
    return SimulationServiceStub(service.channel)


@pytest.fixture
async def used(service: Running, cards: RateCardServiceAsyncStub, name: str) -> str:
    """The id of a card that prices three customers' usage: 2, 4 and 0 tokens at 0.5."""
    await cards.CreateRateCard(card_of(name, per_unit(), fee()), metadata=AS_ACME)
    customers = [f"{name}-{letter}" for letter in "abc"]
    await service.send_periods(*(billing_period(customer, customer=customer, card=name) for customer in customers))
    await service.send_windows(window(2, customer=customers[0]), window(4, customer=customers[1]))
    await service.charge_when("tokens", "4", subscription=customers[1])
    return name


def simulation(priced_by: str, *, amount: str = "1") -> pb.Simulation:
    return pb.Simulation(
        rate_card=card_of("tried", per_unit(amount=amount)).rate_card,
        period=period_to_pb(MARCH),
        priced_by=priced_by,
    )


async def test_page_by_page(simulations: SimulationServiceAsyncStub, used: str) -> None:
    request = pb.SimulateRequest(simulation=simulation(used), page_size=2)
    first = await simulations.Simulate(request, metadata=AS_ACME)
    request.page_token = first.next_page_token
    second = await simulations.Simulate(request, metadata=AS_ACME)

    periods = [*first.periods, *second.periods]
    assert [(item.customer_id[-1], item.current_minor, item.simulated_minor) for item in periods] == [
        ("a", 2100, 200),
        ("b", 2200, 400),
        ("c", 2000, 0),
    ]
    assert [(line.price_id, line.HasField("simulated_minor")) for line in periods[0].lines] == [
        ("fee", False),
        ("tokens", True),
    ]
    assert (periods[0].rate_card_id, periods[0].rate_card_version, periods[0].currency) == (used, 1, "USD")
    assert not second.next_page_token


async def test_the_summary(simulations: SimulationServiceAsyncStub, used: str) -> None:
    request = pb.SummarizeSimulationRequest(simulation=simulation(used, amount="6"))

    summary = await simulations.SummarizeSimulation(request, metadata=AS_ACME)

    assert (summary.winner_count, summary.loser_count, summary.period_count) == (2, 1, 3)
    assert (summary.current_minor, summary.simulated_minor) == (6300, 3600)
    assert [(item.customer_id[-1], item.change_percent) for item in summary.largest_increases] == [("b", "9.09")]
    assert [(item.customer_id[-1], item.change_percent) for item in summary.largest_decreases] == [
        ("c", "-100"),
        ("a", "-42.86"),
    ]
    assert [(item.from_percent, item.to_percent) for item in summary.distribution] == [
        ("-100", "-50"),
        ("-50", "-20"),
        ("5", "10"),
    ]


async def test_a_stored_card(simulations: SimulationServiceAsyncStub, used: str) -> None:
    same = pb.Simulation(
        stored=pb.StoredRateCard(rate_card_id=used), period=period_to_pb(MARCH), customer_ids=[f"{used}-b"]
    )

    summary = await simulations.SummarizeSimulation(pb.SummarizeSimulationRequest(simulation=same), metadata=AS_ACME)

    assert (summary.unchanged_count, summary.current_minor) == (1, 2200)


class TestRefused:
    @pytest.mark.parametrize(
        ("wrong", "expected"),
        [
            (pb.Simulation(period=period_to_pb(MARCH)), ("simulation.card", "REQUIRED")),
            (pb.Simulation(stored=pb.StoredRateCard(rate_card_id="x")), ("simulation.period", "REQUIRED")),
            (
                pb.Simulation(stored=pb.StoredRateCard(rate_card_id="x"), period=period_pb2.Period()),
                ("simulation.period", "INVALID_PERIOD"),
            ),
            (
                pb.Simulation(rate_card=card_of("x", per_unit(amount="-1")).rate_card, period=period_to_pb(MARCH)),
                ("prices[0].per_unit.unit_amount", "NEGATIVE"),
            ),
            (
                pb.Simulation(rate_card=card_of("x", per_unit(meter_id="none")).rate_card, period=period_to_pb(MARCH)),
                ("prices[0].meter_id", "METER_UNKNOWN"),
            ),
            (
                pb.Simulation(
                    stored=pb.StoredRateCard(rate_card_id="x"), period=period_to_pb(MARCH), customer_ids=["a\0"]
                ),
                ("simulation.customer_ids[0]", "CONTROL_CHARACTER"),
            ),
            (
                pb.Simulation(
                    stored=pb.StoredRateCard(rate_card_id="x"), period=period_to_pb(MARCH), customer_ids=["a"] * 1001
                ),
                ("simulation.customer_ids", "TOO_MANY"),
            ),
        ],
        ids=["no-card", "no-period", "empty-period", "wrong-price", "unknown-meter", "customer", "customers"],
    )
    async def test_by_field(
        self, simulations: SimulationServiceAsyncStub, wrong: pb.Simulation, expected: tuple[str, str]
    ) -> None:
        request = pb.SummarizeSimulationRequest(simulation=wrong)
        assert violations(await failure(simulations.SummarizeSimulation(request, metadata=AS_ACME))) == [expected]

    async def test_a_card_that_nobody_stored(self, simulations: SimulationServiceAsyncStub, name: str) -> None:
        request = pb.SimulateRequest(
            simulation=pb.Simulation(stored=pb.StoredRateCard(rate_card_id=name), period=period_to_pb(MARCH))
        )
        assert (await failure(simulations.Simulate(request, metadata=AS_ACME))).reason == "RATE_CARD_NOT_FOUND"

    async def test_a_token_of_another_simulation(self, simulations: SimulationServiceAsyncStub, used: str) -> None:
        request = pb.SimulateRequest(simulation=simulation(used), page_size=1)
        token = (await simulations.Simulate(request, metadata=AS_ACME)).next_page_token
        other = pb.SimulateRequest(simulation=simulation(used, amount="2"), page_token=token)

        assert (await failure(simulations.Simulate(other, metadata=AS_ACME))).reason == "PAGE_TOKEN_INVALID"


class TestRolloutGuard:
    def _request(self, card: str, percent: str, reason: str = "") -> cards_pb.CreateRateCardRequest:
        request = card_of(card, per_unit(amount="6"), fee(), at=APRIL.start)
        request.rollout_guard.CopyFrom(
            cards_pb.RolloutGuard(period=period_to_pb(MARCH), max_change_percent=percent, override_reason=reason)
        )
        return request

    async def test_refuses_by_name_unless_it_is_overridden(self, cards: RateCardServiceAsyncStub, used: str) -> None:
        refused = await failure(cards.CreateRateCard(self._request(used, "75"), metadata=AS_ACME))
        assert (refused.reason, refused.metadata["customers"]) == ("ROLLOUT_GUARD_EXCEEDED", f"{used}-b")

        request = self._request(used, "75", "agreed")
        stored = (await cards.CreateRateCard(request, metadata=AS_ACME)).rate_card
        again = (await cards.CreateRateCard(request, metadata=AS_ACME)).rate_card
        assert (stored.version, stored.override_reason) == (2, "agreed")
        assert again == stored

    async def test_is_checked_by_field(self, cards: RateCardServiceAsyncStub, used: str) -> None:
        request = self._request(used, "-1", "x" * 501)
        request.rollout_guard.ClearField("period")
        assert violations(await failure(cards.CreateRateCard(request, metadata=AS_ACME))) == [
            ("rollout_guard.max_change_percent", "NEGATIVE"),
            ("rollout_guard.override_reason", "TOO_LONG"),
            ("rollout_guard.period", "INVALID_PERIOD"),
        ]
