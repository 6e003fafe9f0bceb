"""Streams of charges: part of every process that serves RPCs."""

from __future__ import annotations

from nats.js import JetStreamContext

from libs.clock import system_clock
from libs.database import Database
from libs.rpc import GrpcServer, Streams
from services.rating.messaging.charge_follower import ChargeFollower
from services.rating.metrics import ChargeStreamMetrics
from services.rating.rpc.charge_stream_service import ChargeStreamServicer
from services.rating.store.unit_of_work import PostgresUnitOfWork
from services.rating.usecases.live_charges import LiveCharges
from services.rating.usecases.read_live_charges import ReadLiveCharges
from services.rating.wire.usage import watermark_to_bytes
from steelyard.rating.v1 import charge_stream_service_pb2_grpc

MOST_STREAMS, MOST_STREAMS_PER_TENANT = 500, 50


def limits() -> Streams:
    """How many streams a process has at once, all its tenants together and each."""
    return Streams(MOST_STREAMS, MOST_STREAMS_PER_TENANT)


def add_charge_streams(server: GrpcServer, database: Database, js: JetStreamContext) -> ChargeFollower:
    """Serve ChargeStreamService; without the follower, which has to run beside it, streams do not begin."""
    live_charges = LiveCharges()
    servicer = ChargeStreamServicer(
        live_charges=live_charges,
        read_live_charges=ReadLiveCharges(PostgresUnitOfWork(database, watermark_to_bytes)),
        metrics=ChargeStreamMetrics(),
        clock=system_clock,
    )
    server.add(servicer, charge_stream_service_pb2_grpc.add_ChargeStreamServiceServicer_to_server)
    return ChargeFollower(js, live_charges)
