"""Puts billing together: the only module that knows all rooms. Reads from top to bottom."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from nats.aio.client import Client
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.clock import system_clock
from libs.database import Database, check_head, is_outage
from libs.directory import KnownKeys
from libs.ids import new_id
from libs.messaging import (
    BILLING,
    DIRECTORY,
    DirectoryPublisher,
    DirectoryReader,
    Handler,
    JetStreamPublisher,
    ParkedMessages,
    PullConsumer,
    connect,
    ensure_streams,
)
from libs.outbox import FactRelay, StateFeed, StateRelay, StateValue
from libs.process import stop_on_signals, supervise
from libs.rpc import Authenticator, GrpcServer, internal_channel, new_api_key
from libs.telemetry import setup
from services.billing.clients.payments import GrpcPayments
from services.billing.clients.rating import GrpcRating
from services.billing.config import Config
from services.billing.messaging import payment_stream, rating_stream
from services.billing.messaging.consuming import Subscription
from services.billing.messaging.directory import StreamDirectory
from services.billing.messaging.encode import (
    BILLING_PERIOD_SUBJECT,
    billing_period_value,
    encode_fact,
    pack_billing_periods,
)
from services.billing.rpc.methods import METHODS
from services.billing.rpc.register import Ports, add_servicers
from services.billing.store.billing_period_state import read_billing_periods
from services.billing.store.charges import PostgresReceivedCharges
from services.billing.store.directory_entries import PostgresDirectoryEntries
from services.billing.store.queues import PostgresQueues
from services.billing.store.tables import MIGRATIONS, billing_period_marks, fact_outbox, parked
from services.billing.store.unit_of_work import PostgresUnitOfWork
from services.billing.store.watermarks import PostgresWatermarks
from services.billing.usecases.apply_charges import ApplyCharges
from services.billing.usecases.close_periods import ClosePeriods
from services.billing.usecases.create_api_key import NewSecret
from services.billing.usecases.extend_periods import ExtendPeriods
from services.billing.usecases.standing_work import close_periods_until, measure_until

Parts = dict[str, Coroutine[object, object, None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """What the parts of the process share."""

    config: Config
    api: Database
    work: Database
    nats: Client
    directory: StreamDirectory
    rating: GrpcRating
    payments: GrpcPayments


async def serve(config: Config) -> None:
    """Run one billing process until SIGTERM.

    :raises SchemaBehindError: if the database needs migrations first
    """
    stopping = stop_on_signals()
    instance = new_id("billing")
    async with AsyncExitStack() as stack:
        telemetry = setup("billing", instance)
        stack.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        await check_head(config.database_url, MIGRATIONS)
        shared = await _open(config, instance, stack)
        keys = KnownKeys()
        reader = DirectoryReader(
            shared.nats.jetstream(),
            shared.nats,
            service="billing",
            instance=instance,
            subjects=["directory.key.>", "directory.clock.>"],
        )
        reader.on_entry("key", keys.apply)
        authenticator = Authenticator(
            keys=keys, operator_key=config.operator_key, internal_key=config.internal_key, clock=system_clock
        )
        server = _server(shared, authenticator)
        parts: Parts = {"directory reader": reader.run(stopping), "grpc": server.run(reader.ready(), stopping)}
        if config.role in ("work", "all"):
            parts |= _work(shared, stopping)
        await supervise(parts, stopping)


async def _open(config: Config, instance: str, stack: AsyncExitStack) -> Resources:
    api = Database(config.database_url, "api", application_name=instance)
    stack.push_async_callback(api.dispose)
    work = Database(config.worker_database_url, "worker", application_name=instance)
    stack.push_async_callback(work.dispose)
    nats = await connect(config.nats_url, name=instance)
    stack.push_async_callback(nats.close)
    js = nats.jetstream()
    await ensure_streams(js, [BILLING, DIRECTORY], replicas=config.nats_replicas)
    rating = internal_channel(config.rating_target, config.internal_key)
    stack.push_async_callback(rating.close)
    payments = internal_channel(config.payments_target, config.internal_key)
    stack.push_async_callback(payments.close)
    # Of its own, so that a burst of new customers, each publishing its entry, never keeps the standing work waiting.
    entries = Database(config.worker_database_url, "worker", application_name=instance, pool_size=4)
    stack.push_async_callback(entries.dispose)
    directory = StreamDirectory(
        entries=PostgresDirectoryEntries(entries),
        publisher=DirectoryPublisher(JetStreamPublisher(js, deadline_s=5.0)),
        connection=nats,
        clock=system_clock,
    )
    return Resources(config, api, work, nats, directory, GrpcRating(rating), GrpcPayments(payments))


def _server(shared: Resources, authenticator: Authenticator) -> GrpcServer:
    config = shared.config
    serves_api = config.role in ("api", "all")
    server = GrpcServer(
        config.grpc_listen,
        service="billing",
        authenticator=authenticator,
        methods=METHODS if serves_api else {},
        reflection=config.reflection,
        is_unavailable=is_outage,
        drain_s=config.drain_s,
    )
    if serves_api:
        ports = Ports(
            unit_of_work=PostgresUnitOfWork(shared.api, encode_fact, system_clock),
            queues=PostgresQueues(shared.work),
            directory=shared.directory,
            rating=shared.rating,
            payments=shared.payments,
            clock=system_clock,
            make_secret=_new_secret,
            test_clocks=config.test_clocks,
        )
        add_servicers(server, ports)
    return server


def _work(shared: Resources, stopping: asyncio.Event) -> Parts:
    js = shared.nats.jetstream()
    unit_of_work = PostgresUnitOfWork(shared.work, encode_fact, system_clock)
    queues, watermarks = PostgresQueues(shared.work), PostgresWatermarks(shared.work)
    publisher = JetStreamPublisher(js)
    facts = FactRelay(shared.work, publisher, fact_outbox, system_clock)
    periods = StateRelay(shared.work, publisher, _billing_period_feed(), system_clock)
    charges = rating_stream.RatingStreamConsumer(
        apply_charges=ApplyCharges(charges=PostgresReceivedCharges(shared.work), watermarks=watermarks)
    )
    captured = payment_stream.PaymentStreamConsumer(unit_of_work=unit_of_work)
    closing = close_periods_until(
        stopping,
        extend=ExtendPeriods(unit_of_work=unit_of_work, queues=queues, clock=system_clock),
        close=ClosePeriods(unit_of_work=unit_of_work, queues=queues, rating=shared.rating, clock=system_clock),
        wake=[facts.wake, periods.wake],
        poll_s=shared.config.poll_s,
    )
    return {
        "charges": _consumer(shared, rating_stream.SUBSCRIPTION, charges).run(stopping),
        "watermark": rating_stream.WatermarkCounter(js, watermarks).run(stopping),
        "payments": _consumer(shared, payment_stream.SUBSCRIPTION, captured).run(stopping),
        "closing": closing,
        "fact relay": facts.run(stopping),
        "billing period relay": periods.run(stopping),
        "directory relay": shared.directory.run(stopping),
        "gauges": measure_until(stopping, queues, system_clock),
    }


def _consumer(shared: Resources, subscription: Subscription, handler: Handler) -> PullConsumer:
    parking = ParkedMessages(shared.work, parked, consumer=subscription.durable, clock=system_clock)
    return PullConsumer(
        shared.nats.jetstream(),
        stream=subscription.stream,
        durable=subscription.durable,
        subjects=subscription.subjects,
        batch=subscription.batch,
        handler=handler,
        park=parking.park,
    )


def _billing_period_feed() -> StateFeed:
    async def read_current(connection: AsyncConnection, tenant_id: str, keys: Sequence[str]) -> list[StateValue]:
        return [billing_period_value(item) for item in await read_billing_periods(connection, tenant_id, keys)]

    return StateFeed(
        entity="billing_period",
        table=billing_period_marks,
        read_current=read_current,
        pack=pack_billing_periods,
        subject_for=lambda _tenant_id: BILLING_PERIOD_SUBJECT,
    )


def _new_secret() -> NewSecret:
    key = new_api_key(secrets.token_bytes)
    return NewSecret(key.key_id, key.text, key.secret_hash)
