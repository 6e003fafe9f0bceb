"""Puts payments together: the only module that knows all rooms. Reads from top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass

from nats.aio.client import Client

from libs.clock import system_clock
from libs.database import Database, check_head, is_outage
from libs.directory import KnownClocks, KnownKeys
from libs.ids import new_id
from libs.messaging import (
    BILLING,
    DIRECTORY,
    PAYMENTS,
    DirectoryReader,
    JetStreamPublisher,
    ParkedMessages,
    PullConsumer,
    connect,
    ensure_streams,
)
from libs.outbox import FactRelay
from libs.process import stop_on_signals, supervise
from libs.rpc import Authenticator, GrpcServer, internal_channel
from libs.telemetry import setup
from services.payments.clients.billing import GrpcBilling
from services.payments.clients.sandbox_gateway import SandboxGateway
from services.payments.config import Config
from services.payments.messaging.encode import encode_fact
from services.payments.messaging.invoice_facts import DURABLE, ISSUED, VOIDED, InvoiceFactsConsumer
from services.payments.rpc.ledger_service import LedgerServicer, ReconciliationServicer
from services.payments.rpc.methods import METHODS
from services.payments.rpc.payment_service import PaymentServicer
from services.payments.store.tables import MIGRATIONS, facts, parked
from services.payments.store.tasks import PostgresDueTasks
from services.payments.store.unit_of_work import PostgresUnitOfWork
from services.payments.usecases.cancel_payment import CancelPayment
from services.payments.usecases.collect_payments import CollectPayments
from services.payments.usecases.collector import collect_until
from services.payments.usecases.get_payments import GetLedger, GetPayments
from services.payments.usecases.reconcile import Reconcile
from services.payments.usecases.record_invoices import RecordInvoices
from services.payments.usecases.set_payment_method import SetPaymentMethod
from services.payments.usecases.settle_attempt import SettleAttempt
from steelyard.payments.v1 import (
    ledger_service_pb2_grpc,
    payment_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
)

SERVICE = "payments"

Parts = dict[str, Coroutine[object, object, None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """What the parts of the process share."""

    config: Config
    api: Database
    worker: Database
    nats: Client
    billing: GrpcBilling
    keys: KnownKeys
    clocks: KnownClocks


async def serve(config: Config) -> None:
    """Run one payments process until SIGTERM.

    :raises SchemaBehindError: if the database needs migrations first
    """
    stopping = stop_on_signals()
    instance = new_id(SERVICE)
    async with AsyncExitStack() as stack:
        telemetry = setup(SERVICE, instance)
        stack.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        await check_head(config.database_url, MIGRATIONS)
        shared = await _open(config, instance, stack)
        directory = _directory(shared, instance)
        parts: Parts = {
            "directory": directory.run(stopping),
            "grpc": _server(shared).run(directory.ready(), stopping),
        }
        if config.works:
            parts |= _work(shared, directory, stopping)
        await supervise(parts, stopping)


async def _open(config: Config, instance: str, stack: AsyncExitStack) -> Resources:
    api = Database(config.database_url, "api", application_name=instance)
    stack.push_async_callback(api.dispose)
    worker = Database(config.worker_database_url, "worker", application_name=instance)
    stack.push_async_callback(worker.dispose)
    nats = await connect(config.nats_url, name=instance)
    stack.push_async_callback(nats.close)
    await ensure_streams(nats.jetstream(), [PAYMENTS, DIRECTORY], replicas=config.nats_replicas)
    billing = internal_channel(config.billing_target, config.internal_key)
    stack.push_async_callback(billing.close)
    return Resources(config, api, worker, nats, GrpcBilling(billing), KnownKeys(), KnownClocks(system_clock))


def _directory(shared: Resources, instance: str) -> DirectoryReader:
    subjects = ["directory.key.>", "directory.clock.>"]
    js = shared.nats.jetstream()
    directory = DirectoryReader(js, shared.nats, service=SERVICE, instance=instance, subjects=subjects)
    directory.on_entry("key", shared.keys.apply)
    directory.on_entry("clock", shared.clocks.apply)
    return directory


def _server(shared: Resources) -> GrpcServer:
    config = shared.config
    server = GrpcServer(
        config.grpc_listen,
        service=SERVICE,
        authenticator=Authenticator(
            keys=shared.keys,
            operator_key=config.operator_key,
            internal_key=config.internal_key,
            clock=system_clock,
        ),
        methods=METHODS if config.serves else {},
        reflection=config.reflection,
        is_unavailable=is_outage,
        drain_s=config.drain_s,
    )
    if config.serves:
        _add_servicers(server, shared)
    return server


def _add_servicers(server: GrpcServer, shared: Resources) -> None:
    unit_of_work = PostgresUnitOfWork(shared.api, encode_fact)
    payments = PaymentServicer(
        set_payment_method=SetPaymentMethod(unit_of_work, system_clock, shared.clocks),
        get_payments=GetPayments(unit_of_work),
        cancel_payment=CancelPayment(unit_of_work, system_clock),
        settle_attempt=SettleAttempt(unit_of_work, system_clock, shared.clocks),
    )
    ledger = LedgerServicer(get_ledger=GetLedger(unit_of_work))
    reconcile = Reconcile(unit_of_work, shared.billing, SandboxGateway(shared.api, system_clock))
    reconciliation = ReconciliationServicer(reconcile=reconcile)
    server.add(payments, payment_service_pb2_grpc.add_PaymentServiceServicer_to_server)
    server.add(ledger, ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server)
    server.add(reconciliation, reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server)


def _work(shared: Resources, directory: DirectoryReader, stopping: asyncio.Event) -> Parts:
    js = shared.nats.jetstream()
    unit_of_work = PostgresUnitOfWork(shared.worker, encode_fact)
    record_invoices = RecordInvoices(unit_of_work=unit_of_work, clock=system_clock)
    consumer = PullConsumer(
        js,
        stream=BILLING.name,
        durable=DURABLE,
        subjects=[ISSUED, VOIDED],
        handler=InvoiceFactsConsumer(record_invoices=record_invoices),
        park=ParkedMessages(shared.worker, parked, consumer=DURABLE, clock=system_clock).park,
    )
    collect = CollectPayments(
        unit_of_work=unit_of_work,
        due=PostgresDueTasks(shared.worker),
        gateway=SandboxGateway(shared.worker, system_clock),
        clock=system_clock,
        times=shared.clocks,
        max_card_tries=shared.config.max_card_tries,
    )
    relay = FactRelay(shared.worker, JetStreamPublisher(js), facts, system_clock)
    poll_s = shared.config.poll_s
    return {
        "invoice facts": consumer.run(stopping),
        "collection": _collect(collect, relay.wake, directory, stopping, poll_s),
        "fact relay": relay.run(stopping),
    }


async def _collect(
    collect: CollectPayments, wake: asyncio.Event, directory: DirectoryReader, stopping: asyncio.Event, poll_s: float
) -> None:
    """Collect as soon as it is known which tenants live on which clocks."""
    if await _loaded(directory, stopping):
        await collect_until(stopping, collect, wake=wake, poll_s=poll_s)


async def _loaded(directory: DirectoryReader, stopping: asyncio.Event) -> bool:
    """Wait until the directory is loaded; False if the process is to stop before that."""
    waits = [asyncio.ensure_future(directory.ready()), asyncio.ensure_future(stopping.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return not stopping.is_set()
