"""Puts the rating service together; the only module that knows all rooms."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc

from libs.clock import system_clock
from libs.database import Database, check_head, is_outage
from libs.directory import KnownClocks
from libs.ids import uuid7
from libs.messaging import DIRECTORY, RATING, connect, ensure_streams
from libs.process import stop_on_signals, supervise
from libs.rpc import Authenticator, GrpcServer, internal_channel
from libs.telemetry import setup
from services.rating.clients.billing import GrpcBillingPeriods
from services.rating.clients.ingest import GrpcIngestMeters, GrpcIngestWindows
from services.rating.config import Config
from services.rating.metrics import RatingMetrics
from services.rating.roles import charge_streams
from services.rating.roles.catalog import add_catalog
from services.rating.roles.directory import directory_of
from services.rating.roles.estimates import add_estimates
from services.rating.roles.reratings import add_reratings
from services.rating.roles.worker import Wakes, Worker
from services.rating.rpc.charge_service import ChargeServicer
from services.rating.rpc.methods import METHODS
from services.rating.rpc.reconciliation_service import ReconciliationServicer
from services.rating.store import tables
from services.rating.store.unit_of_work import PostgresUnitOfWork
from services.rating.usecases.accept_billing_periods import AcceptBillingPeriods
from services.rating.usecases.apply_usage import ApplyUsage
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.confirm_charges import ConfirmCharges
from services.rating.usecases.create_rate_card import GetRateCards
from services.rating.usecases.current_charges import GetCurrentCharges
from services.rating.usecases.fetch_billing_periods import FetchBillingPeriods
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.forecast_charges import ForecastCharges
from services.rating.usecases.get_charges import GetCharges, PreviewCharge
from services.rating.usecases.known_charges import GetKnownCharges
from services.rating.usecases.ports import BillingPeriods, IngestMeters, IngestWindows
from services.rating.usecases.reconcile import Reconcile
from services.rating.usecases.repair_usage import RepairUsage
from services.rating.wire.usage import watermark_to_bytes
from steelyard.rating.v1 import charge_service_pb2_grpc, reconciliation_service_pb2_grpc

SERVICE = "rating"
_INGEST_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Peers:
    """What is asked of the services beside this one."""

    windows: IngestWindows
    meters: IngestMeters
    periods: BillingPeriods
    ingest: grpc.aio.Channel


def add_services(server: GrpcServer, database: Database, peers: Peers, wakes: Wakes, clocks: KnownClocks) -> None:
    """Serve rating's RPCs."""
    open_work = PostgresUnitOfWork(database, watermark_to_bytes)
    fetch_usage = FetchUsage(peers.windows, ApplyUsage(open_work, system_clock, wakes.marked))
    accept = AcceptBillingPeriods(open_work, fetch_usage, system_clock, wakes.marked)
    fetch_periods = FetchBillingPeriods(peers.periods, accept)
    repair_usage = RepairUsage(open_work, peers.windows, fetch_usage)
    ask_quantities = AskQuantities(open_work, peers.windows)
    confirm = ConfirmCharges(open_work, repair_usage, ask_quantities, fetch_periods, system_clock, wakes.rated)
    charges = ChargeServicer(
        get_charges=GetCharges(open_work),
        get_known_charges=GetKnownCharges(open_work, peers.windows),
        get_current_charges=GetCurrentCharges(open_work, peers.windows),
        preview_charge=PreviewCharge(GetRateCards(open_work)),
        forecast_charges=ForecastCharges(open_work, ask_quantities),
        confirm_charges=confirm,
        clock=system_clock,
    )
    reconciliation = ReconciliationServicer(reconcile=Reconcile(open_work, peers.windows))
    server.add(charges, charge_service_pb2_grpc.add_ChargeServiceServicer_to_server)
    server.add(reconciliation, reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server)
    add_catalog(server, open_work, peers.meters, ask_quantities, clocks, wakes.marked)
    add_reratings(server, open_work, repair_usage, ask_quantities, wakes.rated)


async def serve(config: Config) -> None:
    """Run one process of the service until SIGTERM or SIGINT."""
    stopping = stop_on_signals()
    instance = f"{socket.gethostname()}-{uuid7().hex[-8:]}"
    telemetry = setup(SERVICE, instance)
    async with AsyncExitStack() as resources:
        resources.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        await run(config, instance, stopping, resources)


async def run(config: Config, instance: str, stopping: asyncio.Event, resources: AsyncExitStack) -> None:
    """Open what the role needs, serve until `stopping` is set, and leave the closing to `resources`."""
    await check_head(config.database_url, tables.MIGRATIONS)
    messaging = await connect(config.nats_url, name=f"{SERVICE}-{instance}")
    resources.push_async_callback(messaging.close)
    await ensure_streams(messaging.jetstream(), [RATING, DIRECTORY], replicas=config.nats_replicas)
    peers = _peers(config, resources)
    metrics = RatingMetrics(system_clock)
    wakes = Wakes(metrics)

    directory = directory_of(messaging, SERVICE, instance)
    server = GrpcServer(
        config.grpc_listen,
        service=SERVICE,
        authenticator=Authenticator(
            keys=directory.keys,
            operator_key=config.operator_key,
            internal_key=config.internal_key,
            clock=system_clock,
        ),
        methods=METHODS if config.serves else {},
        reflection=config.reflection,
        is_unavailable=is_outage,
        streams=charge_streams.limits(),
    )
    parts = {"directory": directory.reader.run(stopping)}
    if config.works:
        database = _database(config.worker_database_url, "worker", config.worker_pool_size, resources)
        parts |= Worker(database, messaging, peers.windows, wakes, metrics).parts(stopping)
    if config.serves:
        database = _database(config.database_url, "api", config.api_pool_size, resources)
        add_services(server, database, peers, wakes, directory.clocks)
        add_estimates(server, database, peers.ingest, messaging.jetstream())
        follower = charge_streams.add_charge_streams(server, database, messaging.jetstream())
        parts["charge follower"] = follower.run(stopping)
    parts["server"] = server.run(directory.reader.ready(), stopping)
    await supervise(parts, stopping)


def _peers(config: Config, resources: AsyncExitStack) -> Peers:
    ingest = internal_channel(config.ingest_query_target, config.internal_key, timeout_s=_INGEST_TIMEOUT_S)
    billing = internal_channel(config.billing_target, config.internal_key)
    for channel in (ingest, billing):
        resources.push_async_callback(channel.close)
    return Peers(GrpcIngestWindows(ingest), GrpcIngestMeters(ingest), GrpcBillingPeriods(billing), ingest)


def _database(url: str, role: str, pool_size: int, resources: AsyncExitStack) -> Database:
    database = Database(
        url, "api" if role == "api" else "worker", application_name=f"{SERVICE}-{role}", pool_size=pool_size
    )
    resources.push_async_callback(database.dispose)
    return database
