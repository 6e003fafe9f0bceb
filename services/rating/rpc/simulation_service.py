"""SimulationService: translates, no rules."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.rpc import current_tenant, fitting, next_page_token, page_size
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.rate_card import RateCard
from services.rating.rpc import require
from services.rating.rpc.context import Context
from services.rating.rpc.period_scope import place_of, scope_of
from services.rating.usecases.check_rate_card import CheckRateCard
from services.rating.usecases.create_rate_card import GetRateCards
from services.rating.usecases.simulate import Simulate
from services.rating.wire.card_reading import Reading
from services.rating.wire.rate_cards import rate_card_from_pb
from services.rating.wire.simulations import simulated_to_pb, summaries_to_pb
from steelyard.rating.v1 import simulation_service_pb2 as pb
from steelyard.rating.v1 import simulation_service_pb2_grpc as pb_grpc

_MAX_PAGE = 500


class SimulationServicer(pb_grpc.SimulationServiceServicer):
    """Simulations on usage of the calling tenant."""

    def __init__(self, *, simulate: Simulate, check_rate_card: CheckRateCard, get_rate_cards: GetRateCards) -> None:
        self._simulate = simulate
        self._check_rate_card = check_rate_card
        self._get_rate_cards = get_rate_cards

    async def Simulate(self, request: pb.SimulateRequest, context: Context) -> pb.SimulateResponse:
        size = page_size(request, maximum=_MAX_PAGE)
        after = place_of(request)
        scope, card = _scope(request.simulation), await self._card(request.simulation)
        found = await self._simulate.page(scope, card, after, size + 1)
        page = fitting([simulated_to_pb(compared) for compared in found[:size]])
        token = ""
        if len(found) > len(page):
            customer_id, subscription_id, start = found[len(page) - 1].place
            token = next_page_token(request, [customer_id, subscription_id, start.isoformat()])
        return pb.SimulateResponse(periods=page, next_page_token=token)

    async def SummarizeSimulation(
        self, request: pb.SummarizeSimulationRequest, context: Context
    ) -> pb.SummarizeSimulationResponse:
        scope, card = _scope(request.simulation), await self._card(request.simulation)
        return summaries_to_pb(await self._simulate.summaries(scope, card), card.currency)

    async def _card(self, simulation: pb.Simulation) -> RateCard:
        chosen = simulation.WhichOneof("card")
        if chosen is None:
            raise InvalidInput.of("simulation.card", "REQUIRED", "must be a stored card or one that is given")
        if chosen == "stored":
            rate_card_id = require.resource_id(simulation.stored.rate_card_id, "simulation.stored.rate_card_id")
            version = simulation.stored.version
            return (await self._get_rate_cards.get(current_tenant(), rate_card_id, version)).card
        reading = Reading()
        card = rate_card_from_pb(simulation.rate_card, reading)
        checked, _ = await self._check_rate_card(current_tenant(), card, reading.violations)
        return checked


def _scope(simulation: pb.Simulation) -> PeriodScope:
    return scope_of(simulation, has_period=simulation.HasField("period"), path="simulation.")
