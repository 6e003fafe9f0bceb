"""The whole service as a process, between real servers and small peers."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs.embedded.databases import ServiceDatabase
from libs.embedded.machine import free_port
from libs.embedded.nats_server import EmbeddedNats
from libs.errors import InvalidInput
from libs.messaging import BILLING, PAYMENTS, RATING, connect, ensure_streams
from libs.rpc import as_tenant, channel, internal_channel, typed_errors
from services.billing.messaging.rating_stream import CHARGES_SUBJECT, WATERMARK_SUBJECT
from steelyard.billing.v1 import (
    billing_period_pb2,
    billing_period_service_pb2,
    billing_period_service_pb2_grpc,
    customer_service_pb2,
    customer_service_pb2_grpc,
    events_pb2,
    invoice_pb2,
    invoice_service_pb2,
    invoice_service_pb2_grpc,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    subscription_service_pb2,
    subscription_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from steelyard.common.v1 import money_pb2, period_pb2, watermark_pb2
from steelyard.payments.v1 import events_pb2 as payment_events_pb2
from steelyard.rating.v1 import charge_pb2, charge_service_pb2
from tests.component.billing.peers import RatingPeer, confirming, serving
from tests.component.billing.world import eventually
from tests.unit.billing.fakes import TRACE_PARENT, utc

OPERATOR_KEY = "operator-key-for-tests"
INTERNAL_KEY = "internal-key-for-tests"
JANUARY, FEBRUARY = utc(2026, 1, 1), utc(2026, 2, 1)


@dataclass
class Running:
    """A billing process and what surrounds it."""

    target: str
    nats: Client
    rating: RatingPeer
    stack: AsyncExitStack

    def channel(self, key: str) -> grpc.aio.Channel:
        opened = channel(self.target, key=key)
        self.stack.push_async_callback(opened.close)
        return opened

    def internal(self) -> grpc.aio.Channel:
        opened = internal_channel(self.target, INTERNAL_KEY)
        self.stack.push_async_callback(opened.close)
        return opened

    async def tenant_key(self, tenant_id: str) -> tuple[str, str]:
        """Make a tenant on a test clock; returns its key's id and the key."""
        tenants = tenant_service_pb2_grpc.TenantServiceStub(self.channel(OPERATOR_KEY))
        tenant = tenant_pb2.Tenant(tenant_id=tenant_id, invoice_grace_s=0, test_clock_time=stamp(JANUARY))
        await tenants.CreateTenant(tenant_service_pb2.CreateTenantRequest(request_id=new(), tenant=tenant))
        request = tenant_service_pb2.CreateApiKeyRequest(request_id=new(), tenant_id=tenant_id)
        made = await tenants.CreateApiKey(request)
        return made.api_key.key_id, made.secret

    async def subscribe(self, key: str, time_zone: str = "", start_date: str = "") -> None:
        customer = customer_service_pb2.Customer(customer_id="cust-01", time_zone=time_zone)
        customers = customer_service_pb2_grpc.CustomerServiceStub(self.channel(key))
        await customers.CreateCustomer(customer_service_pb2.CreateCustomerRequest(request_id=new(), customer=customer))
        subscription = subscription_service_pb2.Subscription(
            subscription_id="sub-01",
            customer_id="cust-01",
            rate_card_id="standard",
            billing_anchor=subscription_service_pb2.BILLING_ANCHOR_CALENDAR,
            start_date=start_date,
        )
        subscriptions = subscription_service_pb2_grpc.SubscriptionServiceStub(self.channel(key))
        await subscriptions.CreateSubscription(
            subscription_service_pb2.CreateSubscriptionRequest(request_id=new(), subscription=subscription)
        )

    async def publish(self, subject: str, payload: bytes) -> None:
        await self.nats.jetstream().publish(subject, payload, headers={"Nats-Msg-Id": f"acme:{new()}"})

    async def pass_watermark(self) -> None:
        passed = watermark_pb2.WatermarkAdvanced(watermark_time=stamp(datetime.now(UTC) + timedelta(seconds=5)))
        await self.publish(WATERMARK_SUBJECT, passed.SerializeToString())


def new() -> str:
    return str(uuid.uuid4())


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def a_charge(amount: str, version: int) -> charge_pb2.Charge:
    return charge_pb2.Charge(
        subscription_id="sub-01",
        customer_id="cust-01",
        period=period_pb2.Period(start=stamp(JANUARY), end=stamp(FEBRUARY)),
        price_id="calls",
        currency="EUR",
        quantity="100",
        amount=amount,
        version=version,
        rate_card_id="standard",
        rate_card_version=1,
        parts=[charge_pb2.ChargePart(kind="per_unit", quantity="100", unit_amount="0.1", amount=amount)],
        trace_parent=TRACE_PARENT,
    )


@pytest.fixture
async def running(billing_database: ServiceDatabase, own_nats: EmbeddedNats) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        nats = await connect(own_nats.url, name="test")
        stack.push_async_callback(nats.close)
        await ensure_streams(nats.jetstream(), [RATING, PAYMENTS])
        rating = RatingPeer()  # type: ignore[abstract]  # The rest is answered UNIMPLEMENTED.
        peers = await stack.enter_async_context(serving(rating))
        target = f"127.0.0.1:{free_port()}"
        settings = billing_database.environment() | {
            "NATS_URL": own_nats.url,
            "GRPC_LISTEN": target,
            "RATING_TARGET": peers,
            "PAYMENTS_TARGET": peers,
            "STEELYARD_OPERATOR_KEY": OPERATOR_KEY,
            "STEELYARD_INTERNAL_KEY": INTERNAL_KEY,
            "STEELYARD_TEST_CLOCKS": "1",
            "DRAIN": "0",
        }
        await stack.enter_async_context(_process(settings, "--role", "all"))
        running = Running(target, nats, rating, stack)
        await asyncio.wait_for(running.channel("x").channel_ready(), 20)
        await eventually(lambda: _directory_exists(nats))
        await stack.enter_async_context(confirming(nats, "ingest", "rating", "payments"))
        yield running


@asynccontextmanager
async def _process(settings: dict[str, str], *arguments: str) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "services.billing", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings})
    try:
        yield
        assert process.returncode is None, "billing ended by itself"
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def _directory_exists(nats: Client) -> bool:
    names = [info.config.name for info in await nats.jetstream().streams_info()]
    return "DIRECTORY" in names


async def _messages(nats: Client, stream: str, subject: str, count: int) -> Sequence[tuple[dict[str, str], bytes]]:
    subscription = await nats.jetstream().pull_subscribe(subject, stream=stream)
    found: list[tuple[dict[str, str], bytes]] = []
    while len(found) < count:
        found += [(dict(item.headers or {}), item.data) for item in await subscription.fetch(1, timeout=10)]
    await subscription.unsubscribe()
    return found


async def test_usage_becomes_a_paid_invoice_in_one_trace(running: Running) -> None:
    _, key = await running.tenant_key("acme")
    await running.subscribe(key)
    invoices = invoice_service_pb2_grpc.InvoiceServiceStub(running.channel(key))

    # Rating hears of the billing periods.
    [(_, state)] = await _messages(running.nats, BILLING.name, "billing.billing_period.changed.v1", 1)
    changed = billing_period_pb2.BillingPeriodsChanged.FromString(state)
    assert [item.period.start.ToDatetime(UTC) for item in changed.billing_periods] == [JANUARY, FEBRUARY]

    # Its charges show as spend; an older version that comes late does not.
    for charge in (a_charge("12.345", 7), a_charge("1", 3)):
        message = charge_pb2.ChargesChanged(tenant_id="acme", charges=[charge])
        await running.publish(CHARGES_SUBJECT, message.SerializeToString())

    async def spent() -> bool:
        spend = await invoices.GetCurrentSpend(invoice_service_pb2.GetCurrentSpendRequest(customer_id="cust-01"))
        return [item.total.minor_units for item in spend.subscriptions] == [1234]

    await eventually(spent)

    # Live, if rating can tell; what it tells wrongly is not shown.
    asked = invoice_service_pb2.GetCurrentSpendRequest(customer_id="cust-01")
    assert not (await invoices.GetCurrentSpend(asked)).subscriptions[0].live
    of_now = charge_service_pb2.CurrentCharges(
        key=charge_service_pb2.BillingPeriodKey(subscription_id="sub-01", period_start=stamp(JANUARY)),
        period=period_pb2.Period(start=stamp(JANUARY), end=stamp(FEBRUARY)),
        charges=[a_charge("20", 0)],
    )
    running.rating.live = [of_now]
    [live] = (await invoices.GetCurrentSpend(asked)).subscriptions
    assert (live.live, live.total.minor_units) == (True, 2000)
    of_now.charges[0].amount = "twenty"
    running.rating.live = [of_now]
    [rated] = (await invoices.GetCurrentSpend(asked)).subscriptions
    assert (rated.live, rated.total.minor_units) == (False, 1234)
    running.rating.hangs = True
    [rated] = (await invoices.GetCurrentSpend(asked, timeout=0.6)).subscriptions
    assert (rated.live, rated.total.minor_units) == (False, 1234)
    running.rating.hangs = False

    # The period ends; the invoice waits for the watermark.
    running.rating.charges = [a_charge("12.345", 7)]
    tenants = tenant_service_pb2_grpc.TenantServiceStub(running.channel(key))
    await tenants.AdvanceClock(tenant_service_pb2.AdvanceClockRequest(request_id=new(), time=stamp(FEBRUARY)))
    progress = await invoices.GetBillingProgress(invoice_service_pb2.GetBillingProgressRequest())
    assert progress.due_periods == 1
    await running.pass_watermark()

    async def issued() -> bool:
        await running.pass_watermark()
        found = await invoices.ListInvoices(invoice_service_pb2.ListInvoicesRequest())
        return [item.state for item in found.invoices] == [invoice_pb2.INVOICE_STATE_ISSUED]

    await eventually(issued)
    [(headers, payload)] = await _messages(running.nats, BILLING.name, "billing.invoice.issued.v1", 1)
    fact = events_pb2.InvoiceIssued.FromString(payload)
    assert headers["traceparent"].split("-")[1] == TRACE_PARENT.split("-")[1]
    assert headers["Nats-Msg-Id"] == f"acme:invoice-issued:{fact.invoice_id}"
    assert (fact.invoice_number, fact.total) == ("INV-000001", money_pb2.Money(minor_units=1234, currency="EUR"))

    # Payments captures it.
    captured = payment_events_pb2.PaymentSucceeded(
        tenant_id="acme",
        payment_id="pay_1",
        invoice_id=fact.invoice_id,
        amount=fact.total,
        capture_time=stamp(FEBRUARY),
    )
    await running.publish("payments.payment.succeeded.v1", captured.SerializeToString())

    async def paid() -> bool:
        found = await invoices.GetInvoice(invoice_service_pb2.GetInvoiceRequest(invoice="INV-000001"))
        return found.invoice.state == invoice_pb2.INVOICE_STATE_PAID

    await eventually(paid)
    reconciliation = reconciliation_service_pb2_grpc.ReconciliationServiceStub(running.channel(key))
    checks = (await reconciliation.Reconcile(reconciliation_service_pb2.ReconcileRequest())).checks
    assert len(checks) == 6
    assert [check.name for check in checks if not check.ok] == []


async def test_a_key_opens_its_own_tenant_until_it_is_revoked(running: Running) -> None:
    key_id, key = await running.tenant_key("acme")
    _, other_key = await running.tenant_key("globex")
    await running.subscribe(key)
    ours = subscription_service_pb2_grpc.SubscriptionServiceStub(running.channel(key))
    theirs = subscription_service_pb2_grpc.SubscriptionServiceStub(running.channel(other_key))
    request = subscription_service_pb2.GetSubscriptionRequest(subscription_id="sub-01")

    assert (await ours.GetSubscription(request)).subscription.customer_id == "cust-01"
    assert await _code(theirs.GetSubscription(request)) is grpc.StatusCode.NOT_FOUND
    named = ours.GetSubscription(request, metadata=as_tenant("globex"))
    assert await _code(named) is grpc.StatusCode.PERMISSION_DENIED
    tenants = tenant_service_pb2_grpc.TenantServiceStub(running.channel(key))
    advance = tenant_service_pb2.AdvanceClockRequest(request_id=new(), tenant_id="globex", time=stamp(FEBRUARY))
    assert await _code(tenants.AdvanceClock(advance)) is grpc.StatusCode.PERMISSION_DENIED
    assert (
        await _code(tenants.ListTenants(tenant_service_pb2.ListTenantsRequest())) is grpc.StatusCode.PERMISSION_DENIED
    )

    operator = tenant_service_pb2_grpc.TenantServiceStub(running.channel(OPERATOR_KEY))
    await operator.RevokeApiKey(
        tenant_service_pb2.RevokeApiKeyRequest(request_id=new(), tenant_id="acme", key_id=key_id)
    )

    async def refused() -> bool:
        return await _code(ours.GetSubscription(request)) is grpc.StatusCode.UNAUTHENTICATED

    await eventually(refused, timeout_s=5)


async def test_billing_periods_are_offered_as_a_snapshot_in_pages(running: Running) -> None:
    _, key = await running.tenant_key("acme")
    await running.subscribe(key)
    periods = billing_period_service_pb2_grpc.BillingPeriodServiceStub(running.internal())

    request = billing_period_service_pb2.ListBillingPeriodsRequest(page_size=1)
    first = await periods.ListBillingPeriods(request, metadata=as_tenant("acme"))
    request.page_token = first.next_page_token
    second = await periods.ListBillingPeriods(request, metadata=as_tenant("acme"))

    starts = [page.billing_periods[0].period.start.ToDatetime(UTC) for page in (first, second)]
    assert starts == [JANUARY, FEBRUARY]
    assert second.next_page_token == ""


async def test_billing_periods_say_the_zone_of_their_days(running: Running) -> None:
    _, key = await running.tenant_key("acme")
    await running.subscribe(key, "Asia/Kathmandu")
    periods = billing_period_service_pb2_grpc.BillingPeriodServiceStub(running.internal())

    request = billing_period_service_pb2.ListBillingPeriodsRequest(subscription_id="sub-01")
    snapshot = await periods.ListBillingPeriods(request, metadata=as_tenant("acme"))
    [(_, state)] = await _messages(running.nats, BILLING.name, "billing.billing_period.changed.v1", 1)
    changed = billing_period_pb2.BillingPeriodsChanged.FromString(state)

    assert {item.time_zone for item in (*snapshot.billing_periods, *changed.billing_periods)} == {"Asia/Kathmandu"}


async def test_billing_periods_say_what_they_are_a_part_of(running: Running) -> None:
    _, key = await running.tenant_key("acme")
    await running.subscribe(key, start_date="2026-01-15")
    periods = billing_period_service_pb2_grpc.BillingPeriodServiceStub(running.internal())

    request = billing_period_service_pb2.ListBillingPeriodsRequest(subscription_id="sub-01")
    snapshot = await periods.ListBillingPeriods(request, metadata=as_tenant("acme"))
    [(_, state)] = await _messages(running.nats, BILLING.name, "billing.billing_period.changed.v1", 1)
    changed = billing_period_pb2.BillingPeriodsChanged.FromString(state)

    assert list(changed.billing_periods) == list(snapshot.billing_periods)
    first, second = snapshot.billing_periods
    assert first.period.start.ToDatetime(UTC).day == 15
    assert first.whole_period.start.ToDatetime(UTC) == JANUARY
    assert first.whole_period.end == first.period.end
    assert not second.HasField("whole_period")


async def test_a_subscription_can_be_ended_in_the_middle_of_its_period(running: Running) -> None:
    _, key = await running.tenant_key("acme")
    await running.subscribe(key)
    subscriptions = subscription_service_pb2_grpc.SubscriptionServiceStub(running.channel(key))
    request = subscription_service_pb2.CancelSubscriptionRequest(request_id=new(), subscription_id="sub-01")

    for wrong in ("2026-1-5", "tomorrow", "2026-02-30", "2026-02-01", "9999-12-31"):
        request.last_date = wrong
        assert await _refused_fields(subscriptions.CancelSubscription(request)) == ["last_date"], wrong
    request.last_date = "2026-01-20"
    canceled = (await subscriptions.CancelSubscription(request)).subscription
    repeated = (await subscriptions.CancelSubscription(request)).subscription
    request.last_date = "2026-01-21"
    assert await _code(subscriptions.CancelSubscription(request)) is grpc.StatusCode.ALREADY_EXISTS
    request.request_id = new()
    assert await _code(subscriptions.CancelSubscription(request)) is grpc.StatusCode.FAILED_PRECONDITION

    assert canceled.end_time.ToDatetime(UTC) == datetime(2026, 1, 21, tzinfo=UTC)
    assert canceled.current_period.end == canceled.end_time
    assert repeated == canceled
    periods = billing_period_service_pb2_grpc.BillingPeriodServiceStub(running.internal())
    listed = await periods.ListBillingPeriods(
        billing_period_service_pb2.ListBillingPeriodsRequest(subscription_id="sub-01"), metadata=as_tenant("acme")
    )
    assert listed.billing_periods[0].period.end == canceled.end_time
    assert listed.billing_periods[0].whole_period.end.ToDatetime(UTC) == FEBRUARY


async def _code(call: Awaitable[object]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_question_names_the_field_that_makes_no_sense(running: Running) -> None:
    _, key = await running.tenant_key("acme")
    opened = running.channel(key)
    customers = customer_service_pb2_grpc.CustomerServiceStub(opened)
    subscriptions = subscription_service_pb2_grpc.SubscriptionServiceStub(opened)
    invoices = invoice_service_pb2_grpc.InvoiceServiceStub(opened)
    tenants = tenant_service_pb2_grpc.TenantServiceStub(running.channel(OPERATOR_KEY))
    for bad in ("\0", "x" * 10_000, " "):
        asked: list[Awaitable[object]] = [
            customers.GetCustomer(customer_service_pb2.GetCustomerRequest(customer_id=bad)),
            subscriptions.GetSubscription(subscription_service_pb2.GetSubscriptionRequest(subscription_id=bad)),
            subscriptions.ListSubscriptions(subscription_service_pb2.ListSubscriptionsRequest(customer_id=bad)),
            subscriptions.CancelSubscription(
                subscription_service_pb2.CancelSubscriptionRequest(request_id=new(), subscription_id=bad)
            ),
            invoices.GetInvoice(invoice_service_pb2.GetInvoiceRequest(invoice=bad)),
            invoices.ListInvoices(invoice_service_pb2.ListInvoicesRequest(customer_id=bad)),
            invoices.PreviewInvoice(invoice_service_pb2.PreviewInvoiceRequest(subscription_id=bad)),
            invoices.GetCurrentSpend(invoice_service_pb2.GetCurrentSpendRequest(customer_id=bad)),
            tenants.RevokeApiKey(
                tenant_service_pb2.RevokeApiKeyRequest(request_id=new(), tenant_id="acme", key_id=bad)
            ),
        ]
        found = [await _refused_fields(call) for call in asked]
        assert found == [
            ["customer_id"],
            ["subscription_id"],
            ["customer_id"],
            ["subscription_id"],
            ["invoice"],
            ["customer_id"],
            ["subscription_id"],
            ["customer_id"],
            ["key_id"],
        ]


async def _refused_fields(call: Awaitable[object]) -> list[str]:
    try:
        with typed_errors():
            await call
    except InvalidInput as error:
        return [violation.field for violation in error.violations]
    return []
