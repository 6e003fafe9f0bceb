"""A fresh system for each benchmark, and one tenant in it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.sender import BenchmarkError, Sender, in_flight
from benchmarks.workload import CLOCK, PERIOD_START
from libs.cli.demo import catalog
from libs.clock import monotonic_s, system_clock
from libs.embedded.machine import temporary_root
from libs.embedded.stack import Stack
from steelyard import Client, Endpoints, Options
from steelyard.billing.v1 import (
    customer_service_pb2,
    invoice_service_pb2,
    subscription_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
)
from steelyard.ingest.v1 import meter_service_pb2, usage_service_pb2
from steelyard.payments.v1 import payment_service_pb2
from steelyard.rating.v1 import rate_card_service_pb2

TENANT = "bench"
RECORDER = "ingest-record"
_PATIENCE_S = 900
_OPTIONS = Options(call_timeout_s=120)
_SET_UP_IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Tenant:
    """The benchmark's tenant: its client for everything, and the bare sender of its usage."""

    client: Client
    sender: Sender


def say(text: str) -> None:
    """Tell on stderr what is being done."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def running_stack(settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Stack]:
    """Start everything, durable, with empty databases; remove it afterwards, or keep its files if anything failed.

    `settings` are of the environment of the services.

    :raises BenchmarkError: if the environment names existing servers, whose load and data we do not know
    """
    root = temporary_root()
    try:
        with Stack(root, settings={"STEELYARD_TEST_CLOCKS": "1", **settings}, report=lambda _: None) as stack:
            if stack.postgres is None or stack.nats is None:
                raise BenchmarkError("unset NATS_URL and *_DATABASE_URL: benchmarks start servers of their own")
            yield stack
    except BaseException:
        say(f"logs and data are kept in {root}")
        raise
    shutil.rmtree(root)


@contextmanager
def paused(stack: Stack, name: str) -> Iterator[None]:
    """Stop a service process from running for a while; it keeps its connections and whatever it was doing."""
    child = stack.services.child(name)
    child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.send_signal(signal.SIGCONT)


def postgres_url(stack: Stack, database: str) -> str:
    """Return the superuser's URL of a service's database."""
    assert stack.postgres is not None
    return stack.postgres.url(database)


def operator(stack: Stack) -> Client:
    """Return a client with the operator's key."""
    return _client(stack, stack.endpoints().operator_key)


@asynccontextmanager
async def new_tenants(stack: Stack, customers: Sequence[str], count: int) -> AsyncIterator[list[Tenant]]:
    """Create so many tenants, each with all these customers."""
    say(f"creating {count} tenants with {len(customers)} customers each")
    async with AsyncExitStack() as opened:
        tenants = [
            await opened.enter_async_context(_created(stack, customers, f"{TENANT}-{number:03}"))
            for number in range(count)
        ]
        for tenant in tenants:
            await until_rated(tenant.client)
        yield tenants


@asynccontextmanager
async def new_tenant(stack: Stack, customers: Sequence[str]) -> AsyncIterator[Tenant]:
    """Create the tenant with meters, rate card and customers, each with one subscription."""
    say(f"creating {len(customers)} customers")
    async with _created(stack, customers, TENANT) as tenant:
        await until_rated(tenant.client)  # The first bills of all customers are work, too.
        yield tenant


@asynccontextmanager
async def _created(stack: Stack, customers: Sequence[str], tenant_id: str) -> AsyncIterator[Tenant]:
    key = await _create_tenant(stack, tenant_id)
    async with _client(stack, key) as client, Sender(stack.endpoints().ingest, key) as sender:
        await _create_catalog(client)
        await in_flight(customers, _SET_UP_IN_FLIGHT, lambda customer: _create_customer(client, customer))
        yield Tenant(client, sender)


async def _create_tenant(stack: Stack, tenant_id: str) -> str:
    async with operator(stack) as client:
        tenants = client.services.tenants
        tenant = tenant_pb2.Tenant(tenant_id=tenant_id, display_name="Benchmark", test_clock_time=stamp(CLOCK))
        await tenants.CreateTenant(tenant_service_pb2.CreateTenantRequest(request_id=new_id(), tenant=tenant))
        key = await tenants.CreateApiKey(
            tenant_service_pb2.CreateApiKeyRequest(request_id=new_id(), tenant_id=tenant_id, display_name="benchmark")
        )
    return key.secret


async def _create_catalog(client: Client) -> None:
    for meter in catalog.meters():
        await client.services.meters.CreateMeter(meter_service_pb2.CreateMeterRequest(request_id=new_id(), meter=meter))
    await client.services.rate_cards.CreateRateCard(
        rate_card_service_pb2.CreateRateCardRequest(request_id=new_id(), rate_card=catalog.rate_card())
    )


async def until(reached: Callable[[], Awaitable[bool]], what: str, *, poll_s: float = 0.1) -> float:
    """Ask until it is so, and return the monotonic time at which it was.

    :raises BenchmarkError: if it takes unreasonably long
    """
    give_up_at = monotonic_s() + _PATIENCE_S
    while not await reached():
        if monotonic_s() > give_up_at:
            raise BenchmarkError(f"gave up waiting until {what}")
        await asyncio.sleep(poll_s)
    return monotonic_s()


async def until_recorded(client: Client, events: int) -> float:
    """Wait until so many events are recorded, and return the monotonic time at which they were."""

    async def recorded() -> bool:
        counts = await client.services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest())
        return counts.recorded >= events

    return await until(recorded, f"{events} events are recorded")


async def until_rated(client: Client) -> float:
    """Wait until everything accepted so far is recorded, rated and known to billing; return when, monotonic."""
    asked, accepted_at = invoice_service_pb2.GetBillingProgressRequest(), system_clock()

    async def rated() -> bool:
        progress = await client.services.invoices.GetBillingProgress(asked)
        return progress.watermark_time.ToDatetime(UTC) > accepted_at

    return await until(rated, "everything is rated")


def new_id() -> str:
    """Return a fresh request id."""
    return str(uuid.uuid4())


def stamp(at: datetime) -> Timestamp:
    """Return an instant as protobuf has it."""
    made = Timestamp()
    made.FromDatetime(at)
    return made


def _client(stack: Stack, key: str) -> Client:
    where = stack.endpoints()
    endpoints = Endpoints(where.ingest, where.ingest_query, where.rating, where.billing, where.payments)
    return Client(api_key=key, endpoints=endpoints, options=_OPTIONS)


async def _create_customer(client: Client, customer_id: str) -> None:
    customer = customer_service_pb2.Customer(customer_id=customer_id, display_name=customer_id)
    await client.services.customers.CreateCustomer(
        customer_service_pb2.CreateCustomerRequest(request_id=new_id(), customer=customer)
    )
    await client.services.payments.SetPaymentMethod(
        payment_service_pb2.SetPaymentMethodRequest(
            request_id=new_id(), customer_id=customer_id, gateway_token="tok_ok"
        )
    )
    subscription = subscription_service_pb2.Subscription(
        subscription_id=f"sub-{customer_id}",
        customer_id=customer_id,
        rate_card_id=catalog.RATE_CARD_ID,
        start_date=PERIOD_START.date().isoformat(),
        billing_anchor=subscription_service_pb2.BILLING_ANCHOR_CALENDAR,
    )
    await client.services.subscriptions.CreateSubscription(
        subscription_service_pb2.CreateSubscriptionRequest(request_id=new_id(), subscription=subscription)
    )
