"""Rate cards, what was agreed beside them, and simulations: part of every process that serves RPCs."""

from __future__ import annotations

from collections.abc import Callable

from libs.clock import system_clock
from libs.directory import KnownClocks
from libs.rpc import GrpcServer
from services.rating.rpc.price_override_service import PriceOverrideServicer
from services.rating.rpc.rate_card_service import RateCardServicer
from services.rating.rpc.simulation_service import SimulationServicer
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.check_rate_card import CheckRateCard
from services.rating.usecases.create_rate_card import CreateRateCard, GetRateCards
from services.rating.usecases.guard_rollout import GuardRollout
from services.rating.usecases.ports import IngestMeters, OpenWork
from services.rating.usecases.price_overrides import PriceOverrides
from services.rating.usecases.simulate import Simulate
from steelyard.rating.v1 import (
    price_override_service_pb2_grpc,
    rate_card_service_pb2_grpc,
    simulation_service_pb2_grpc,
)


def add_catalog(
    server: GrpcServer,
    open_work: OpenWork,
    meters: IngestMeters,
    ask_quantities: AskQuantities,
    clocks: KnownClocks,
    on_marked: Callable[[], None],
) -> None:
    """Serve RateCardService, PriceOverrideService and SimulationService."""
    get_cards, check = GetRateCards(open_work), CheckRateCard(meters)
    simulate = Simulate(open_work, ask_quantities)
    create = CreateRateCard(open_work, check, GuardRollout(simulate), system_clock, clocks.now, on_marked)
    server.add(
        RateCardServicer(create_rate_card=create, get_rate_cards=get_cards),
        rate_card_service_pb2_grpc.add_RateCardServiceServicer_to_server,
    )
    server.add(
        PriceOverrideServicer(price_overrides=PriceOverrides(open_work, check, get_cards, system_clock, on_marked)),
        price_override_service_pb2_grpc.add_PriceOverrideServiceServicer_to_server,
    )
    server.add(
        SimulationServicer(simulate=simulate, check_rate_card=check, get_rate_cards=get_cards),
        simulation_service_pb2_grpc.add_SimulationServiceServicer_to_server,
    )
