"""The demo's steps, against any running stack: set up, send, close the month, collect."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.demo import catalog
from libs.cli.demo.workload import Workload
from libs.cli.invoices import all_invoices
from libs.cli.payments import all_payments
from libs.cli.reconcile import Checks, all_checks
from steelyard import Ack, Client, Endpoints, Options, Unavailable
from steelyard.billing.v1 import (
    customer_service_pb2,
    invoice_pb2,
    invoice_service_pb2,
    subscription_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
)
from steelyard.common.v1 import period_pb2
from steelyard.ingest.v1 import meter_service_pb2, usage_service_pb2
from steelyard.payments.v1 import ledger_service_pb2, payment_pb2, payment_service_pb2
from steelyard.rating.v1 import rate_card_service_pb2

GRACE_S = 3600
_DECLINING = 2  # So many customers' cards decline first.
_PATIENCE_S = 180
_POLL_S = 0.1
_CHUNK = 1000
_OPTIONS = Options(call_timeout_s=30)


class DemoError(Exception):
    """A step did not come to its end; the message says which and how far it got."""


@dataclass
class Outcome:
    """What the demo ended with, and how long each stage took."""

    workload: Workload
    stages_s: dict[str, float] = field(default_factory=dict)
    counts: usage_service_pb2.GetEventCountsResponse = field(default_factory=usage_service_pb2.GetEventCountsResponse)
    invoices: list[invoice_pb2.Invoice] = field(default_factory=list)
    payments: list[payment_pb2.Payment] = field(default_factory=list)
    ledger: ledger_service_pb2.GetLedgerBalancesResponse = field(
        default_factory=ledger_service_pb2.GetLedgerBalancesResponse
    )
    checks: Checks = field(default_factory=dict)
    api_key: str = ""

    @contextmanager
    def stage(self, name: str, report: Callable[[str], None]) -> Iterator[None]:
        """Announce a stage and measure it."""
        report(name)
        began_s = time.monotonic()
        yield
        self.stages_s[name] = time.monotonic() - began_s


Progress = Callable[[int], None]
Pace = Callable[[int], Awaitable[None]]
"""Called with the number of events sent so far."""


class Scenario:
    """One run for one fresh tenant."""

    def __init__(
        self,
        workload: Workload,
        *,
        endpoints: Endpoints,
        operator_key: str,
        tenant_id: str,
        seed: int,
        report: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._workload, self._seed = workload, seed
        self._endpoints, self._operator_key, self._tenant_id = endpoints, operator_key, tenant_id
        self._report, self._progress = report, progress
        self._outcome = Outcome(workload)

    async def run(self) -> Outcome:
        """Run every stage.

        :raises DemoError: if a stage does not come to its end in time
        :raises SteelyardError: if a call fails
        """
        outcome = self._outcome
        async with self.operator() as operator:
            with outcome.stage("create tenant, meters, rate card, customers", self._report):
                await self.set_up(operator)
            async with self.tenant() as client:
                with outcome.stage("send usage until it is recorded", self._report):
                    await self.send_usage(client)
                with outcome.stage("close the month and issue invoices", self._report):
                    await self.close_month(operator, client)
                with outcome.stage("collect payments, with retries a day later", self._report):
                    await self.collect(operator, client)
                with outcome.stage("reconcile", self._report):
                    await self.look_at_results(client)
        return outcome

    def operator(self) -> Client:
        """Return a client with the operator's key."""
        return Client(api_key=self._operator_key, endpoints=self._endpoints, options=_OPTIONS)

    def tenant(self) -> Client:
        """Return a client with the tenant's key, after set_up."""
        return Client(api_key=self._outcome.api_key, endpoints=self._endpoints, options=_OPTIONS)

    async def set_up(self, operator: Client) -> None:
        """Create the tenant with its key, the catalog and the customers."""
        self._outcome.api_key = await self._create_tenant(operator)
        async with self.tenant() as client:
            await self._create_catalog(client)

    async def send_usage(self, client: Client, *, pace: Pace | None = None) -> None:
        """Send everything and wait until it is recorded; `pace` is awaited before each thousand events."""
        wave = self._workload.first_wave(self._seed)
        for at in range(0, len(wave), _CHUNK):
            if pace:
                await pace(at)
            for event in wave[at : at + _CHUNK]:
                await client.record_event(event)
            self._progress(len(wave[at : at + _CHUNK]))
        report = await client.flush()
        if report.total != len(wave):
            raise DemoError(f"{report.total} of {len(wave)} events were answered")
        await self._until(self._recorded, client)
        # Only now are the originals certain to have come first, so that these are the conflicts.
        await client.send(self._workload.conflicts, ack=Ack.RECORDED)
        self._progress(len(self._workload.conflicts))

    async def close_month(self, operator: Client, client: Client) -> None:
        """Move the clock past the period's end and grace, and wait for the invoices."""
        await self._advance(operator, self._workload.end + timedelta(seconds=GRACE_S + 1))
        await self._until(self._issued, client)

    async def collect(self, operator: Client, client: Client) -> None:
        """Wait for the first tries, move the clock by a day for the second ones, and wait until all is paid."""
        await self._until(self._first_tries_made, client)
        await self._advance(operator, self._workload.end + timedelta(days=1, seconds=2 * GRACE_S))
        await self._until(self._paid, client)

    async def look_at_results(self, client: Client) -> Outcome:
        """Read what came out, and reconcile."""
        outcome, workload = self._outcome, self._workload
        outcome.counts = await client.services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest())
        outcome.invoices = sorted(await all_invoices(client), key=lambda invoice: invoice.customer_id)
        outcome.payments = await all_payments(client)
        outcome.ledger = await client.services.ledger.GetLedgerBalances(ledger_service_pb2.GetLedgerBalancesRequest())
        period = period_pb2.Period(start=_stamp(workload.start), end=_stamp(workload.end))
        outcome.checks = await all_checks(client, period)
        return outcome

    async def _create_tenant(self, operator: Client) -> str:
        tenant = tenant_pb2.Tenant(
            tenant_id=self._tenant_id,
            display_name="Demo",
            invoice_grace_s=GRACE_S,
            test_clock_time=_stamp(self._workload.clock),
        )
        await operator.services.tenants.CreateTenant(
            tenant_service_pb2.CreateTenantRequest(request_id=_id(), tenant=tenant)
        )
        response = await operator.services.tenants.CreateApiKey(
            tenant_service_pb2.CreateApiKeyRequest(request_id=_id(), tenant_id=self._tenant_id, display_name="demo")
        )
        return response.secret

    async def _create_catalog(self, client: Client) -> None:
        for meter in catalog.meters():
            await client.services.meters.CreateMeter(
                meter_service_pb2.CreateMeterRequest(request_id=_id(), meter=meter)
            )
        await client.services.rate_cards.CreateRateCard(
            rate_card_service_pb2.CreateRateCardRequest(request_id=_id(), rate_card=catalog.rate_card())
        )
        for index, name in enumerate(self._workload.customers):
            await self._create_customer(client, name, "tok_decline_then_ok" if index < _DECLINING else "tok_ok")

    async def _create_customer(self, client: Client, name: str, token: str) -> None:
        customer = customer_service_pb2.Customer(customer_id=name, display_name=name)
        await client.services.customers.CreateCustomer(
            customer_service_pb2.CreateCustomerRequest(request_id=_id(), customer=customer)
        )
        await client.services.payments.SetPaymentMethod(
            payment_service_pb2.SetPaymentMethodRequest(request_id=_id(), customer_id=name, gateway_token=token)
        )
        subscription = subscription_service_pb2.Subscription(
            subscription_id=f"sub-{name}",
            customer_id=name,
            rate_card_id=catalog.RATE_CARD_ID,
            start_date=self._workload.start.date().isoformat(),
            billing_anchor=subscription_service_pb2.BILLING_ANCHOR_CALENDAR,
        )
        await client.services.subscriptions.CreateSubscription(
            subscription_service_pb2.CreateSubscriptionRequest(request_id=_id(), subscription=subscription)
        )

    async def _recorded(self, client: Client) -> str | None:
        counts = await client.services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest())
        expected = len(self._workload.originals)
        return None if counts.recorded == expected else f"{counts.recorded} of {expected} events are recorded"

    async def _issued(self, client: Client) -> str | None:
        progress = await client.services.invoices.GetBillingProgress(invoice_service_pb2.GetBillingProgressRequest())
        if progress.due_periods:
            return f"{progress.due_periods} periods are due; holds: {', '.join(progress.holds) or 'none'}"
        issued, expected = len(await all_invoices(client)), len(self._workload.customers)
        return None if issued == expected else f"{issued} of {expected} invoices are issued"

    async def _first_tries_made(self, client: Client) -> str | None:
        payments = await all_payments(client)
        tried = sum(bool(payment.attempts) for payment in payments)
        settled = sum(
            payment.state in (payment_pb2.PAYMENT_STATE_SUCCEEDED, payment_pb2.PAYMENT_STATE_SCHEDULED)
            and bool(payment.attempts)
            for payment in payments
        )
        expected = len(self._workload.customers)
        return None if settled == expected else f"{tried} of {expected} payments were tried, {settled} answered"

    async def _paid(self, client: Client) -> str | None:
        paid = await all_invoices(client, state=invoice_pb2.INVOICE_STATE_PAID)
        expected = len(self._workload.customers)
        return None if len(paid) == expected else f"{len(paid)} of {expected} invoices are paid"

    async def _advance(self, operator: Client, to: datetime) -> None:
        request = tenant_service_pb2.AdvanceClockRequest(request_id=_id(), tenant_id=self._tenant_id, time=_stamp(to))

        async def advanced(client: Client) -> None:
            await client.services.tenants.AdvanceClock(request)  # Safe to repeat: it has a request id.

        await self._until(advanced, operator)

    async def _until(self, missing: Callable[[Client], Awaitable[str | None]], client: Client) -> None:
        give_up_at_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                problem = await missing(client)
            except Unavailable as error:  # Looking again is what a person would do, too.
                problem = str(error)
            if problem is None:
                return
            if time.monotonic() > give_up_at_s:
                raise DemoError(f"gave up after {_PATIENCE_S} s: {problem}")
            await asyncio.sleep(_POLL_S)


def _id() -> str:
    return str(uuid.uuid4())


def _stamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
