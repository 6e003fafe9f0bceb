"""Reratings: part of every process that serves RPCs."""

from __future__ import annotations

from collections.abc import Callable

from libs.clock import system_clock
from libs.rpc import GrpcServer
from services.rating.rpc.rerating_service import ReratingServicer
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.ports import OpenWork
from services.rating.usecases.rate_periods import RatedPeriods
from services.rating.usecases.repair_usage import RepairUsage
from services.rating.usecases.rerate import ListReratedCharges, Rerate
from steelyard.rating.v1 import rerating_service_pb2_grpc


def add_reratings(
    server: GrpcServer,
    open_work: OpenWork,
    repair_usage: RepairUsage,
    ask_quantities: AskQuantities,
    on_rated: Callable[[RatedPeriods], None],
) -> None:
    """Serve ReratingService."""
    server.add(
        ReratingServicer(
            rerate=Rerate(open_work, repair_usage, ask_quantities, system_clock, on_rated),
            list_rerated_charges=ListReratedCharges(open_work),
        ),
        rerating_service_pb2_grpc.add_ReratingServiceServicer_to_server,
    )
