"""Puts an ingest process together, of the roles that it plays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from libs.clock import system_clock
from libs.database import Database, check_head, is_outage
from libs.directory import KnownClocks, KnownKeys
from libs.ids import new_id
from libs.messaging import DIRECTORY, INGEST, PRODUCERS, USAGE_RAW, Applier, DirectoryReader, connect, ensure_streams
from libs.process import stop_on_signals, supervise
from libs.rpc import Audience, Authenticator, GrpcServer
from libs.telemetry import setup
from services.ingest.config import Config
from services.ingest.roles.accept import accept
from services.ingest.roles.maintain import maintain
from services.ingest.roles.process import Parts, Process
from services.ingest.roles.query import query
from services.ingest.roles.record import record
from services.ingest.rpc.methods import ACCEPT_METHODS, QUERY_METHODS
from services.ingest.store.migrations import PACKAGE as MIGRATIONS

_STREAMS = (USAGE_RAW, INGEST, DIRECTORY, PRODUCERS)


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
            parts |= await accept(process)
        if config.role != "accept":
            await check_head(config.database_url, MIGRATIONS)
            worker = Database(config.worker_database_url, "worker", application_name=instance)
            stack.push_async_callback(worker.dispose)
            if config.plays("record"):
                parts |= record(process, worker)
            if config.plays("query"):
                parts |= query(process, worker)
            if config.plays("maintain"):
                parts |= maintain(process, worker)
        reader = _reader(process)
        parts |= {
            "directory": reader.run(process.stopping),
            "grpc": process.server.run(_ready(process, reader), process.stopping),
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
    return Process(config, instance, nats, appliers, clocks, authenticator, server, stop_on_signals(), stack)


async def _ready(process: Process, reader: DirectoryReader) -> None:
    await reader.ready()
    process.knows_directory.set()


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
