"""Puts the rating service together; the only module that knows all rooms."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

import grpc
from nats.aio.client import Client

from libs.clock import Clock, system_clock
from libs.database import Database, check_head, is_outage
from libs.directory import KnownKeys
from libs.ids import uuid7
from libs.messaging import (
    BILLING,
    DIRECTORY,
    INGEST,
    RATING,
    DirectoryReader,
    JetStreamPublisher,
    ParkedMessages,
    PullConsumer,
    connect,
    ensure_streams,
)
from libs.outbox import StateRelay, WatermarkFeed, WatermarkForwarder
from libs.process import stop_on_signals, supervise
from libs.rpc import Authenticator, GrpcServer, internal_channel
from libs.telemetry import setup
from services.rating.clients.billing import GrpcBillingPeriods
from services.rating.clients.ingest import GrpcIngestMeters, GrpcIngestWindows
from services.rating.config import Config
from services.rating.messaging import billing_period_consumer, charge_feed, usage_consumer
from services.rating.messaging.watermark_loop import WatermarkLoop
from services.rating.metrics import RatingMetrics
from services.rating.roles import charge_streams
from services.rating.roles.estimates import add_estimates
from services.rating.rpc.charge_service import ChargeServicer
from services.rating.rpc.methods import METHODS
from services.rating.rpc.price_override_service import PriceOverrideServicer
from services.rating.rpc.rate_card_service import RateCardServicer
from services.rating.rpc.reconciliation_service import ReconciliationServicer
from services.rating.rpc.simulation_service import SimulationServicer
from services.rating.store import tables
from services.rating.store.charges import read_charges
from services.rating.store.unit_of_work import WATERMARK_NAME, PostgresUnitOfWork
from services.rating.usecases.accept_billing_periods import AcceptBillingPeriods
from services.rating.usecases.apply_usage import ApplyUsage
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.check_rate_card import CheckRateCard
from services.rating.usecases.confirm_charges import ConfirmCharges
from services.rating.usecases.create_rate_card import CreateRateCard, GetRateCards
from services.rating.usecases.fetch_billing_periods import FetchBillingPeriods
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.forecast_charges import ForecastCharges
from services.rating.usecases.forward_watermark import ForwardWatermark
from services.rating.usecases.get_charges import GetCharges, PreviewCharge
from services.rating.usecases.guard_rollout import GuardRollout
from services.rating.usecases.ports import BillingPeriods, IngestMeters, IngestWindows
from services.rating.usecases.price_overrides import PriceOverrides
from services.rating.usecases.rate_asked_periods import RateAskedPeriods
from services.rating.usecases.rate_chunk import RateChunk
from services.rating.usecases.rate_due_periods import RateDuePeriods
from services.rating.usecases.rate_periods import RatedPeriods
from services.rating.usecases.rater import Rater
from services.rating.usecases.reconcile import Reconcile
from services.rating.usecases.simulate import Simulate
from services.rating.wire.usage import watermark_to_bytes
from steelyard.rating.v1 import (
    charge_service_pb2_grpc,
    price_override_service_pb2_grpc,
    rate_card_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
    simulation_service_pb2_grpc,
)

SERVICE = "rating"
_INGEST_TIMEOUT_S = 20.0


class Wakes:
    """What has to look at once after a commit in this process; empty where the worker runs elsewhere."""

    def __init__(self, metrics: RatingMetrics) -> None:
        self._metrics = metrics
        self.rater: asyncio.Event | None = None
        self.relay: asyncio.Event | None = None

    def marked(self) -> None:
        """Billing periods have to be rated."""
        if self.rater is not None:
            self.rater.set()

    def rated(self, rated: RatedPeriods) -> None:
        """Charges have to be published."""
        self._metrics.rated(rated)
        if self.relay is not None and rated.changed_count:
            self.relay.set()


class Worker:
    """Consumes windows and billing periods, rates, and publishes charges and watermarks."""

    def __init__(
        self, database: Database, messaging: Client, ingest: IngestWindows, wakes: Wakes, metrics: RatingMetrics
    ) -> None:
        self._database = database
        self._js = messaging.jetstream()
        self._wakes = wakes
        self._metrics = metrics
        open_work = PostgresUnitOfWork(database, watermark_to_bytes)
        publisher = JetStreamPublisher(self._js)
        charges = charge_feed.charge_feed(tables.charge_marks, read_charges)
        self._relay = StateRelay(database, publisher, charges, system_clock)
        watermarks = WatermarkFeed(
            WATERMARK_NAME, tables.outbox_watermarks, tables.charge_marks, charge_feed.WATERMARK_SUBJECT
        )
        self._forwarder = WatermarkForwarder(database, publisher, watermarks, system_clock)
        ask = AskQuantities(open_work, ingest)
        rate_chunk = RateChunk(open_work, system_clock, self._rated)
        rate_asked_periods = RateAskedPeriods(ask, rate_chunk)
        self._rater = Rater(
            RateDuePeriods(open_work, rate_chunk, ask, rate_asked_periods, system_clock), rate_asked_periods
        )
        self._watermark_loop = WatermarkLoop(self._js, ForwardWatermark(open_work), metrics.forwarded)
        wakes.rater, wakes.relay = self._rater.wake, self._relay.wake
        self._apply_usage = ApplyUsage(open_work, system_clock, wakes.marked)
        fetch_usage = FetchUsage(ingest, self._apply_usage)
        self._accept_billing_periods = AcceptBillingPeriods(open_work, fetch_usage, system_clock, wakes.marked)

    def parts(self, stopping: asyncio.Event) -> dict[str, Coroutine[object, object, None]]:
        """The loops of the worker, by name."""
        return {
            "usage consumer": self._usage_consumer(system_clock).run(stopping),
            "billing period consumer": self._billing_period_consumer(system_clock).run(stopping),
            "rater": self._rater.run(stopping),
            "asking rater": self._rater.run_asked(stopping),
            "charge relay": self._relay.run(stopping),
            "watermark loop": self._watermark_loop.run(stopping),
            "watermark forwarder": self._forwarder.run(stopping),
        }

    def _rated(self, rated: RatedPeriods, waited: timedelta) -> None:
        self._metrics.waited(waited)
        self._wakes.rated(rated)

    def _usage_consumer(self, clock: Clock) -> PullConsumer:
        durable = usage_consumer.DURABLE
        parked = ParkedMessages(
            self._database, tables.parked, consumer=durable, clock=clock, tenant_of=usage_consumer.tenant_of
        )
        return PullConsumer(
            self._js,
            stream=INGEST.name,
            durable=durable,
            subjects=(usage_consumer.WINDOW_SUBJECT, usage_consumer.WATERMARK_SUBJECT),
            handler=usage_consumer.UsageConsumer(self._apply_usage),
            park=parked.park,
            batch=usage_consumer.BATCH,
        )

    def _billing_period_consumer(self, clock: Clock) -> PullConsumer:
        durable = billing_period_consumer.DURABLE
        parked = ParkedMessages(self._database, tables.parked, consumer=durable, clock=clock)
        return PullConsumer(
            self._js,
            stream=BILLING.name,
            durable=durable,
            subjects=(billing_period_consumer.SUBJECT,),
            handler=billing_period_consumer.BillingPeriodConsumer(self._accept_billing_periods),
            park=parked.park,
            batch=billing_period_consumer.BATCH,
        )


@dataclass(frozen=True, slots=True)
class Peers:
    """What is asked of the services beside this one."""

    windows: IngestWindows
    meters: IngestMeters
    periods: BillingPeriods
    ingest: grpc.aio.Channel


def add_services(server: GrpcServer, database: Database, peers: Peers, wakes: Wakes) -> None:
    """Serve rating's RPCs."""
    open_work = PostgresUnitOfWork(database, watermark_to_bytes)
    fetch_usage = FetchUsage(peers.windows, ApplyUsage(open_work, system_clock, wakes.marked))
    accept = AcceptBillingPeriods(open_work, fetch_usage, system_clock, wakes.marked)
    fetch_periods = FetchBillingPeriods(peers.periods, accept)
    get_rate_cards, check_rate_card = GetRateCards(open_work), CheckRateCard(peers.meters)
    ask_quantities = AskQuantities(open_work, peers.windows)
    simulate = Simulate(open_work, ask_quantities)
    rate_cards = RateCardServicer(
        create_rate_card=CreateRateCard(open_work, check_rate_card, GuardRollout(simulate), system_clock, wakes.marked),
        get_rate_cards=get_rate_cards,
    )
    charges = ChargeServicer(
        get_charges=GetCharges(open_work),
        preview_charge=PreviewCharge(get_rate_cards),
        forecast_charges=ForecastCharges(open_work, ask_quantities),
        clock=system_clock,
        confirm_charges=ConfirmCharges(
            open_work,
            peers.windows,
            fetch_usage,
            ask_quantities,
            fetch_periods,
            system_clock,
            wakes.rated,
        ),
    )
    reconciliation = ReconciliationServicer(reconcile=Reconcile(open_work, peers.windows))
    simulations = SimulationServicer(simulate=simulate, check_rate_card=check_rate_card, get_rate_cards=get_rate_cards)
    overrides = PriceOverrides(open_work, check_rate_card, get_rate_cards, system_clock, wakes.marked)
    server.add(
        PriceOverrideServicer(price_overrides=overrides),
        price_override_service_pb2_grpc.add_PriceOverrideServiceServicer_to_server,
    )
    server.add(simulations, simulation_service_pb2_grpc.add_SimulationServiceServicer_to_server)
    server.add(rate_cards, rate_card_service_pb2_grpc.add_RateCardServiceServicer_to_server)
    server.add(charges, charge_service_pb2_grpc.add_ChargeServiceServicer_to_server)
    server.add(reconciliation, reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server)


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

    keys = KnownKeys()
    directory = DirectoryReader(
        messaging.jetstream(), messaging, service=SERVICE, instance=instance, subjects=["directory.key.>"]
    )
    directory.on_entry("key", keys.apply)
    server = GrpcServer(
        config.grpc_listen,
        service=SERVICE,
        authenticator=Authenticator(
            keys=keys,
            operator_key=config.operator_key,
            internal_key=config.internal_key,
            clock=system_clock,
        ),
        methods=METHODS if config.serves else {},
        reflection=config.reflection,
        is_unavailable=is_outage,
        streams=charge_streams.limits(),
    )
    parts = {"directory": directory.run(stopping)}
    if config.works:
        database = _database(config.worker_database_url, "worker", config.worker_pool_size, resources)
        parts |= Worker(database, messaging, peers.windows, wakes, metrics).parts(stopping)
    if config.serves:
        database = _database(config.database_url, "api", config.api_pool_size, resources)
        add_services(server, database, peers, wakes)
        add_estimates(server, database, peers.ingest, messaging.jetstream())
        follower = charge_streams.add_charge_streams(server, database, messaging.jetstream())
        parts["charge follower"] = follower.run(stopping)
    parts["server"] = server.run(directory.ready(), stopping)
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
