"""Puts payments together: the only module that knows all rooms. Reads from top to bottom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack

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
from services.payments.usecases.get_payments import GetLedger, GetPayments
from services.payments.usecases.reconcile import Reconcile
from services.payments.usecases.record_invoices import RecordInvoices
from services.payments.usecases.set_payment_method import SetPaymentMethod
from steelyard.payments.v1 import (
    ledger_service_pb2_grpc,
    payment_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
)

_LOGGER = logging.getLogger(__name__)


async def serve(config: Config) -> None:
    """Run one payments process until SIGTERM.

    :raises SchemaBehindError: if the database needs migrations first
    """
    stopping = stop_on_signals()
    instance = new_id("payments")
    async with AsyncExitStack() as resources:
        telemetry = setup("payments", instance)
        resources.push_async_callback(asyncio.to_thread, telemetry.shutdown)
        await check_head(config.database_url, MIGRATIONS)
        api = Database(config.database_url, "api", application_name=instance)
        resources.push_async_callback(api.dispose)
        worker = Database(config.worker_database_url, "worker", application_name=instance)
        resources.push_async_callback(worker.dispose)
        nats = await connect(config.nats_url, name=instance)
        resources.push_async_callback(nats.close)
        js = nats.jetstream()
        await ensure_streams(js, [PAYMENTS, DIRECTORY])

        keys, clocks = KnownKeys(), KnownClocks(system_clock)
        directory = DirectoryReader(
            js, nats, service="payments", instance=instance, subjects=["directory.key.>", "directory.clock.>"]
        )
        directory.on_entry("key", keys.apply)
        directory.on_entry("clock", clocks.apply)
        parts: dict[str, Coroutine[object, object, None]] = {"directory": directory.run(stopping)}

        if config.role in ("work", "all"):
            unit_of_work = PostgresUnitOfWork(worker, encode_fact)
            consumer = PullConsumer(
                js,
                stream=BILLING.name,
                durable=DURABLE,
                subjects=[ISSUED, VOIDED],
                handler=InvoiceFactsConsumer(
                    record_invoices=RecordInvoices(unit_of_work=unit_of_work, clock=system_clock)
                ),
                park=ParkedMessages(worker, parked, consumer=DURABLE, clock=system_clock).park,
            )
            collect = CollectPayments(
                unit_of_work=unit_of_work,
                due=PostgresDueTasks(worker),
                gateway=SandboxGateway(worker, system_clock),
                clock=system_clock,
                times=clocks,
            )
            relay = FactRelay(worker, JetStreamPublisher(js), facts, system_clock)
            parts |= {
                "invoice facts": consumer.run(stopping),
                "collection": _collect(collect, relay, stopping, config.poll_s, directory),
                "fact relay": relay.run(stopping),
            }

        authenticator = Authenticator(
            keys=keys, operator_key=config.operator_key, internal_key=config.internal_key, clock=system_clock
        )
        server = GrpcServer(
            config.grpc_listen,
            service="payments",
            authenticator=authenticator,
            methods=METHODS if config.role != "work" else {},
            reflection=config.reflection,
            is_unavailable=is_outage,
            drain_s=config.drain_s,
        )
        if config.role in ("api", "all"):
            billing = GrpcBilling(internal_channel(config.billing_target, config.internal_key))
            _add_servicers(server, api, clocks, billing)
        parts["grpc"] = _serve_grpc(server, directory, stopping)
        await supervise(parts, stopping)


def _add_servicers(server: GrpcServer, api: Database, clocks: KnownClocks, billing: GrpcBilling) -> None:
    unit_of_work = PostgresUnitOfWork(api, encode_fact)
    payments = PaymentServicer(
        set_payment_method=SetPaymentMethod(unit_of_work, system_clock, clocks),
        get_payments=GetPayments(unit_of_work),
        cancel_payment=CancelPayment(unit_of_work, system_clock),
    )
    reconcile = Reconcile(unit_of_work, billing, SandboxGateway(api, system_clock))
    server.add(payments, payment_service_pb2_grpc.add_PaymentServiceServicer_to_server)
    server.add(
        LedgerServicer(get_ledger=GetLedger(unit_of_work)), ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server
    )
    server.add(
        ReconciliationServicer(reconcile=reconcile),
        reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server,
    )


async def _collect(
    collect: CollectPayments, relay: FactRelay, stopping: asyncio.Event, poll_s: float, directory: DirectoryReader
) -> None:
    """Collect what is due, as soon as the tenants' clocks are known, until stopped."""
    await directory.ready()
    while not stopping.is_set():
        try:
            handled = await collect()
        except Exception as error:
            if not is_outage(error):
                raise
            _LOGGER.warning("the database is away: %r", error)
            handled = 0
        if handled:
            relay.wake.set()
            continue
        try:
            await asyncio.wait_for(stopping.wait(), poll_s)
        except TimeoutError:
            continue


async def _serve_grpc(server: GrpcServer, directory: DirectoryReader, stopping: asyncio.Event) -> None:
    """Serve once the directory is loaded, and drain at the end."""
    await server.start()
    await directory.ready()
    await server.set_ready(True)
    await stopping.wait()
    await server.stop()
