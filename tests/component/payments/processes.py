"""Payments as it is run: processes, what they need, and how other services call them; billing is played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs.embedded.databases import ServiceDatabase
from libs.embedded.machine import free_port
from libs.errors import NotFound
from libs.messaging import (
    BILLING,
    DIRECTORY,
    DirectoryPublisher,
    JetStreamPublisher,
    connect,
    directory_subject,
    ensure_streams,
)
from libs.rpc import as_tenant, typed_errors
from steelyard.billing.v1 import (
    directory_pb2,
    events_pb2,
    invoice_pb2,
    invoice_service_pb2,
    invoice_service_pb2_grpc,
)
from steelyard.common.v1.money_pb2 import Money
from steelyard.payments.v1 import (
    ledger_service_pb2_grpc,
    payment_pb2,
    payment_service_pb2,
    payment_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[3]
TENANT = "acme"
TEST_NOW = datetime(2031, 3, 1, tzinfo=UTC)
INTERNAL_KEY, OPERATOR_KEY = "internal-key-of-the-test", "operator-key-of-the-test"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PATIENCE_S = 30.0

ResultT = TypeVar("ResultT")


class FakeBilling(invoice_service_pb2_grpc.InvoiceServiceServicer):
    """Lists the invoices that the test has issued."""

    def __init__(self) -> None:
        self.invoices: dict[str, invoice_pb2.Invoice] = {}

    async def ListInvoices(
        self, request: invoice_service_pb2.ListInvoicesRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> invoice_service_pb2.ListInvoicesResponse:
        return invoice_service_pb2.ListInvoicesResponse(invoices=self.invoices.values())


@dataclass
class Surroundings:
    """What a payments process needs, and the clients of the test."""

    database: ServiceDatabase
    nats_url: str
    nats: Client
    billing: FakeBilling
    billing_target: str
    grpc_target: str

    def environment(self) -> dict[str, str]:
        return {
            **self.database.environment(),
            "NATS_URL": self.nats_url,
            "GRPC_LISTEN": self.grpc_target,
            "BILLING_TARGET": self.billing_target,
            "STEELYARD_INTERNAL_KEY": INTERNAL_KEY,
            "STEELYARD_OPERATOR_KEY": OPERATOR_KEY,
            "DRAIN": "0.1",
        }

    async def publish(
        self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        await JetStreamPublisher(self.nats.jetstream()).publish(subject, payload, msg_id, headers or {})

    async def issue(self, invoice_id: str, customer_id: str, minor_units: int = 1999) -> None:
        """Billing issues an invoice: in its list, and as a fact in the trace of a usage event."""
        total = Money(minor_units=minor_units, currency="EUR")
        self.billing.invoices[invoice_id] = invoice_pb2.Invoice(
            invoice_id=invoice_id, total=total, state=invoice_pb2.INVOICE_STATE_ISSUED
        )
        fact = events_pb2.InvoiceIssued(
            tenant_id=TENANT,
            invoice_id=invoice_id,
            invoice_number=f"INV-{invoice_id}",
            customer_id=customer_id,
            total=total,
            issue_time=timestamp(TEST_NOW),
        )
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        msg_id = f"{TENANT}:invoice-issued:{invoice_id}"
        await self.publish("billing.invoice.issued.v1", fact.SerializeToString(), msg_id, headers)

    async def set_clock(self, at: datetime) -> None:
        entry = directory_pb2.ClockEntry(tenant_id=TENANT, test_time=timestamp(at), version=int(at.timestamp()))
        directory = DirectoryPublisher(JetStreamPublisher(self.nats.jetstream()))
        msg_id = f"{TENANT}:clock:{entry.version}"
        await directory.put(directory_subject("clock", TENANT), entry.SerializeToString(), msg_id)


class Api:
    """The RPCs as another service calls them."""

    def __init__(self, opened: grpc.aio.Channel) -> None:
        self.payments = payment_service_pb2_grpc.PaymentServiceStub(opened)
        self.ledger = ledger_service_pb2_grpc.LedgerServiceStub(opened)
        self.reconciliation = reconciliation_service_pb2_grpc.ReconciliationServiceStub(opened)

    async def set_method(self, customer_id: str, token: str, request_id: str = "") -> payment_service_pb2.PaymentMethod:
        request = payment_service_pb2.SetPaymentMethodRequest(
            request_id=request_id or str(uuid.uuid4()), customer_id=customer_id, gateway_token=token
        )
        with typed_errors():
            return (await self.payments.SetPaymentMethod(request, metadata=as_tenant(TENANT))).payment_method

    async def payment(self, invoice_id: str = "", payment_id: str = "") -> payment_pb2.Payment:
        by = {"payment_id": payment_id} if payment_id else {"invoice_id": invoice_id} if invoice_id else {}
        with typed_errors():
            response = await self.payments.GetPayment(
                payment_service_pb2.GetPaymentRequest(**by), metadata=as_tenant(TENANT)
            )
        return response.payment

    async def page(self, request: payment_service_pb2.ListPaymentsRequest) -> payment_service_pb2.ListPaymentsResponse:
        with typed_errors():
            return await self.payments.ListPayments(request, metadata=as_tenant(TENANT))

    async def cancel(self, invoice_id: str) -> payment_service_pb2.CancelPaymentResponse:
        request = payment_service_pb2.CancelPaymentRequest(request_id=str(uuid.uuid4()), invoice_id=invoice_id)
        with typed_errors():
            return await self.payments.CancelPayment(request, metadata=as_tenant(TENANT))

    async def until(self, invoice_id: str, state: payment_pb2.PaymentState.ValueType) -> payment_pb2.Payment:
        """Wait until the payment is in a state."""

        async def reached() -> payment_pb2.Payment | None:
            with contextlib.suppress(NotFound):
                payment = await self.payment(invoice_id)
                return payment if payment.state == state else None
            return None

        return await eventually(reached)


async def eventually(look: Callable[[], Awaitable[ResultT | None]]) -> ResultT:
    """Look again and again until there is something to see."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (found := await look()) is not None:
                return found
            await asyncio.sleep(0.05)


def timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


@contextlib.asynccontextmanager
async def surroundings(database: ServiceDatabase, nats_url: str) -> AsyncIterator[Surroundings]:
    """Serve as billing, and make billing's streams."""
    billing, server = FakeBilling(), grpc.aio.server()  # type: ignore[abstract]  # One method is enough.
    invoice_service_pb2_grpc.add_InvoiceServiceServicer_to_server(billing, server)
    billing_target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    nats = await connect(nats_url, name="test")
    await ensure_streams(nats.jetstream(), [BILLING, DIRECTORY])
    yield Surroundings(database, nats_url, nats, billing, billing_target, f"127.0.0.1:{free_port()}")
    await nats.close()
    await server.stop(None)


@contextlib.asynccontextmanager
async def running(around: Surroundings, role: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process until the end of the block, and make sure that it then ends in good order and soon."""
    process = await start(around.environment() | settings, "--role", role)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def start(environment: Mapping[str, str], *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "services.payments", *arguments)
    path = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**path, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def end_of(environment: Mapping[str, str], *arguments: str) -> tuple[int | None, str]:
    """Run a process that ends by itself; return its status and what it says on stderr."""
    process = await start(environment, *arguments)
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()
