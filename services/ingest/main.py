"""Puts ingest together: the only module that knows all rooms. Reads from top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from nats.aio.client import Client

from libs.clock import system_clock
from libs.database import Database, check_head, is_outage
from libs.directory import KnownClocks, KnownKeys
from libs.ids import new_id, uuid7
from libs.messaging import (
    DIRECTORY,
    INGEST,
    USAGE_RAW,
    Applier,
    DirectoryPublisher,
    DirectoryReader,
    JetStreamPublisher,
    ParkedMessages,
    PullConsumer,
    connect,
    ensure_streams,
)
from libs.outbox import StateRelay, WatermarkFeed, WatermarkForwarder
from libs.process import stop_on_signals, supervise
from libs.rpc import Audience, Authenticator, GrpcServer
from libs.telemetry import setup
from services.ingest.config import Config
from services.ingest.messaging.batch_queue import StreamBatchQueue
from services.ingest.messaging.customer_sync import CustomerSync
from services.ingest.messaging.keeper import Keeper, encode_watermark, park_with_position
from services.ingest.messaging.known_tenants import KnownTenants
from services.ingest.messaging.meter_directory import MeterDirectory
from services.ingest.messaging.queue_level import QueueLevel
from services.ingest.messaging.recorded_replies import NatsRecordedReplies
from services.ingest.messaging.usage_recorder import DURABLE, SUBJECTS, UsageRecorder, tenant_of
from services.ingest.messaging.window_feed import WATERMARK_SUBJECT, WindowPublisher, window_feed
from services.ingest.messaging.window_pace import WindowPace
from services.ingest.rpc.ingest_service import IngestServicer
from services.ingest.rpc.methods import ACCEPT_METHODS, QUERY_METHODS
from services.ingest.rpc.register import QueryPorts, add_query_servicers
from services.ingest.store import tables
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.store.keeper import WATERMARK_NAME, PostgresKeeper
from services.ingest.store.known_customers import PostgresKnownCustomers
from services.ingest.store.meter_publications import PostgresMeterPublications
from services.ingest.store.meters import PostgresMeterStore
from services.ingest.store.migrations import PACKAGE as MIGRATIONS
from services.ingest.store.parked import PostgresParkedPositions
from services.ingest.store.partitions import PartitionsAhead
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.store.usage_windows import PostgresWindowStore, read_windows
from services.ingest.usecases.accept_usage import AcceptUsage
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.tenant_lanes import TenantLanes
from steelyard.ingest.v1 import ingest_service_pb2_grpc

Parts = dict[str, Coroutine[object, object, None]]

_STREAMS = (USAGE_RAW, INGEST, DIRECTORY)
_CHUNK_MESSAGES = 64
_LANES_DRAIN_S = 5.0

# A chunk costs a dozen statements and a commit, however few events are in it.
_RECORDER_REST_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """What the parts of a process share; `appliers` are given to the reader of the directory before it runs."""

    config: Config
    instance: str
    nats: Client
    appliers: dict[str, list[Applier]]
    clocks: KnownClocks
    server: GrpcServer
    stopping: asyncio.Event
    stack: AsyncExitStack


async def serve(config: Config) -> None:
    """Run one ingest process until SIGTERM.

    :raises SchemaBehindError: if the database needs migrations first
    """
    instance = new_id("ingest")
    async with AsyncExitStack() as stack:
        telemetry = setup("ingest", instance)
        stack.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        process = await _open(config, instance, stack)
        parts: Parts = {}
        if config.plays("accept"):
            parts |= await _accept(process)
        if config.role != "accept":
            await check_head(config.database_url, MIGRATIONS)
            worker = Database(config.worker_database_url, "worker", application_name=instance)
            stack.push_async_callback(worker.dispose)
            if config.plays("record"):
                parts |= _record(process, worker)
            if config.plays("query"):
                parts |= _query(process, worker)
        reader = _reader(process)
        parts |= {
            "directory": reader.run(process.stopping),
            "grpc": process.server.run(reader.ready(), process.stopping),
        }
        await supervise(parts, process.stopping)


async def _open(config: Config, instance: str, stack: AsyncExitStack) -> Process:
    nats = await connect(config.nats_url, name=instance)
    stack.push_async_callback(nats.close)
    js = nats.jetstream()
    await ensure_streams(js, _STREAMS, replicas=config.nats_replicas)
    keys, clocks = KnownKeys(), KnownClocks(system_clock)
    authenticator = Authenticator(
        keys=keys, operator_key=config.operator_key, internal_key=config.internal_key, clock=system_clock
    )
    server = GrpcServer(
        config.grpc_listen,
        service="ingest",
        authenticator=authenticator,
        methods=_methods(config),
        reflection=config.reflection,
        is_unavailable=is_outage,
        drain_s=config.drain_s,
    )
    appliers: dict[str, list[Applier]] = {"key": [keys.apply], "clock": [clocks.apply]}
    # Not before: while it waits for a server, a signal simply ends the process.
    return Process(config, instance, nats, appliers, clocks, server, stop_on_signals(), stack)


def _follow(process: Process, appliers: Mapping[str, Applier]) -> None:
    for kind, applier in appliers.items():
        process.appliers.setdefault(kind, []).append(applier)


def _reader(process: Process) -> DirectoryReader:
    reader = DirectoryReader(
        process.nats.jetstream(),
        process.nats,
        service="ingest",
        instance=process.instance,
        subjects=[f"directory.{kind}.>" for kind in process.appliers],
    )
    for kind, appliers in process.appliers.items():
        reader.on_entry(kind, _all_of(appliers))
    return reader


def _all_of(appliers: Sequence[Applier]) -> Applier:
    def apply(ids: tuple[str, ...], payload: bytes | None, sequence: int) -> None:
        for applier in appliers:
            applier(ids, payload, sequence)

    return apply


def _methods(config: Config) -> dict[str, Audience]:
    return (ACCEPT_METHODS if config.plays("accept") else {}) | (QUERY_METHODS if config.plays("query") else {})


async def _accept(process: Process) -> Parts:
    js = process.nats.jetstream()
    tenants = KnownTenants(process.clocks)
    _follow(process, tenants.appliers())
    # One life of this process: numbers begin again with the next one.
    epoch = str(uuid7())
    replies = await NatsRecordedReplies.subscribe(process.nats, epoch)
    level = QueueLevel(js)
    queue = StreamBatchQueue(JetStreamPublisher(js), level, acceptor_epoch=epoch, reply_subject=replies.subject)
    lanes = TenantLanes(queue, replies, system_clock, max_pending_bytes=process.config.max_pending_bytes)
    process.stack.push_async_callback(lanes.drain, _LANES_DRAIN_S)
    servicer = IngestServicer(AcceptUsage(tenants=tenants, lanes=lanes), epoch)
    process.server.add(servicer, ingest_service_pb2_grpc.add_IngestServiceServicer_to_server)
    return {"queue level": level.run(process.stopping)}


def _record(process: Process, worker: Database) -> Parts:
    js, stopping = process.nats.jetstream(), process.stopping
    publisher = JetStreamPublisher(js)
    windows, pace = window_feed(tables.window_marks, read_windows), WindowPace()
    relay = StateRelay(worker, WindowPublisher(publisher), windows, system_clock, pace)

    def on_recorded(lag_s: float) -> None:
        pace.recorded(lag_s)
        relay.wake.set()

    feed = WatermarkFeed(WATERMARK_NAME, tables.watermarks, tables.window_marks, WATERMARK_SUBJECT)
    forwarder = WatermarkForwarder(worker, publisher, feed, system_clock)
    margin = timedelta(seconds=process.config.purge_margin_s)
    keeper = Keeper(
        js,
        publisher,
        PostgresKeeper(worker, encode_watermark, purge_margin=margin),
        system_clock,
        on_watermark=forwarder.wake.set,
    )
    customers = CustomerSync(PostgresKnownCustomers(worker))
    _follow(process, customers.appliers())
    transactions = PostgresRecordingTransactions(worker)
    return _recorders(process, worker, transactions, on_recorded) | {
        "partitions": PartitionsAhead(transactions, system_clock).run(stopping),
        "keeper": keeper.run(stopping),
        "window relay": relay.run(stopping),
        "watermark forwarder": forwarder.run(stopping),
        "customers": customers.run(stopping),
    }


def _recorders(
    process: Process,
    worker: Database,
    transactions: PostgresRecordingTransactions,
    on_recorded: Callable[[float], None],
) -> Parts:
    """Several consumers, so that one computes while PostgreSQL works for another."""
    recorder = UsageRecorder(RecordUsage(transactions, system_clock), process.nats, system_clock, on_recorded)
    parked = ParkedMessages(worker, tables.parked, consumer=DURABLE, clock=system_clock, tenant_of=tenant_of)
    park = park_with_position(parked.park, PostgresParkedPositions(worker))
    return {
        f"recorder {number}": PullConsumer(
            process.nats.jetstream(),
            stream=USAGE_RAW.name,
            durable=DURABLE,
            subjects=SUBJECTS,
            handler=recorder,
            park=park,
            batch=_CHUNK_MESSAGES,
            max_ack_pending=4 * _CHUNK_MESSAGES,
            rest_s=_RECORDER_REST_S,
        ).run(process.stopping)
        for number in range(process.config.recorders)
    }


def _query(process: Process, worker: Database) -> Parts:
    config = process.config
    api = Database(config.database_url, "api", application_name=process.instance)
    process.stack.push_async_callback(api.dispose)
    publisher = DirectoryPublisher(JetStreamPublisher(process.nats.jetstream(), deadline_s=5.0))
    meter_directory = MeterDirectory(PostgresMeterPublications(worker), publisher, system_clock)
    ports = QueryPorts(
        meters=PostgresMeterStore(api),
        publication=meter_directory,
        usage=PostgresUsageStore(api),
        events=PostgresEventStore(api),
        windows=PostgresWindowStore(api),
        quantities=PostgresQuantityStore(api),
        reconciliation=PostgresReconciliationStore(api),
        clock=system_clock,
    )
    add_query_servicers(process.server, ports)
    return {"meter directory": meter_directory.run(process.stopping)}
