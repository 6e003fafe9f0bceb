"""One tenant of a run: its set-up, its month, and the questions that a run asks of the public API."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.demo import catalog
from libs.cli.holds import all_holds
from libs.cli.invoices import all_invoices
from libs.cli.payments import all_payments
from libs.cli.reconcile import Checks, all_checks
from steelyard import Client, Endpoints, NotAllowed, Options, SteelyardError, Unavailable
from steelyard.billing.v1 import (
    customer_service_pb2,
    invoice_pb2,
    invoice_service_pb2,
    subscription_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
)
from steelyard.common.v1 import period_pb2
from steelyard.ingest.v1 import hold_service_pb2, meter_service_pb2, usage_service_pb2
from steelyard.payments.v1 import payment_pb2, payment_service_pb2
from steelyard.rating.v1 import rate_card_service_pb2
from tests.faults.driver import workload
from tests.faults.driver.history import OK, UNKNOWN, History

GRACE_S = 3600
_POLL_S = 0.1
_OPTIONS = Options(call_timeout_s=10)
ResultT = TypeVar("ResultT")


class Stuck(Exception):
    """Something did not come about in time."""


class TenantSession:
    """Speaks for one tenant. Every mutation is repeated under its request id until it is answered."""

    def __init__(
        self, tenant_id: str, endpoints: Endpoints, operator_key: str, history: History, *, patience_s: float
    ) -> None:
        self.tenant_id = tenant_id
        self._patience_s = patience_s
        self.api_key = ""
        self._endpoints = endpoints
        self._history = history
        self._operator = Client(api_key=operator_key, endpoints=endpoints, options=_OPTIONS)
        self._client = self._operator

    async def close(self) -> None:
        """Close the channels."""
        await self._client.close()
        await self._operator.close()

    async def set_up(self) -> None:
        """Create the tenant with its key, meters, rate card, customers, cards and subscriptions."""
        tenants = self._operator.services.tenants
        tenant = tenant_pb2.Tenant(
            tenant_id=self.tenant_id,
            display_name=self.tenant_id,
            invoice_grace_s=GRACE_S,
            test_clock_time=_stamp(workload.END - timedelta(seconds=1)),
        )
        creation = tenant_service_pb2.CreateTenantRequest(request_id=_id(), tenant=tenant)
        await self._repeated(lambda: tenants.CreateTenant(creation))
        self.api_key = (
            await self._repeated(
                # A key's secret is told once: after an unknown outcome another one is made.
                lambda: tenants.CreateApiKey(
                    tenant_service_pb2.CreateApiKeyRequest(request_id=_id(), tenant_id=self.tenant_id, display_name="k")
                )
            )
        ).secret
        self._client = Client(api_key=self.api_key, endpoints=self._endpoints, options=_OPTIONS)
        for meter in catalog.meters():
            new_meter = meter_service_pb2.CreateMeterRequest(request_id=_id(), meter=meter)
            await self._repeated(lambda new=new_meter: self._client.services.meters.CreateMeter(new))  # type: ignore[misc]
        card = rate_card_service_pb2.CreateRateCardRequest(request_id=_id(), rate_card=catalog.rate_card())
        await self._repeated(lambda: self._client.services.rate_cards.CreateRateCard(card))
        await asyncio.gather(*(self._create_customer(*customer) for customer in workload.CUSTOMERS.items()))

    async def _create_customer(self, name: str, token: str) -> None:
        services = self._client.services
        customer = customer_service_pb2.CreateCustomerRequest(
            request_id=_id(), customer=customer_service_pb2.Customer(customer_id=name, display_name=name)
        )
        await self._repeated(lambda: services.customers.CreateCustomer(customer))
        method = payment_service_pb2.SetPaymentMethodRequest(request_id=_id(), customer_id=name, gateway_token=token)
        await self._repeated(lambda: services.payments.SetPaymentMethod(method))
        subscription = subscription_service_pb2.CreateSubscriptionRequest(
            request_id=_id(),
            subscription=subscription_service_pb2.Subscription(
                subscription_id=f"sub-{name}",
                customer_id=name,
                rate_card_id=catalog.RATE_CARD_ID,
                start_date=workload.START.date().isoformat(),
                billing_anchor=subscription_service_pb2.BILLING_ANCHOR_CALENDAR,
            ),
        )
        await self._repeated(lambda: services.subscriptions.CreateSubscription(subscription))

    async def advance_past_the_month(self) -> None:
        """Move the tenant's clock behind the month and its grace."""
        await self._advance(workload.END + timedelta(seconds=GRACE_S + 1))

    async def wait_until_issued(self) -> None:
        """Return when every customer has an invoice and nothing is due any more.

        :raises Stuck: with what is missing
        """
        await self._until(self._not_issued)

    async def collect(self) -> None:
        """Wait for the first tries, move the clock by a day for the second ones, and wait until all is paid.

        :raises Stuck: with what is missing
        """
        await self._until(self._not_tried)
        await self._advance(workload.END + timedelta(days=1, seconds=2 * GRACE_S))
        await self._until(self._not_paid)

    async def event_counts(self) -> usage_service_pb2.GetEventCountsResponse:
        """The counts of the public API."""
        return await self._repeated(
            lambda: self._client.services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest())
        )

    async def lift_holds(self) -> None:
        """Say that what was missing has come again (docs/runbooks/stream-lost.md): of this tenant and of everybody."""
        holds = await self._repeated(lambda: all_holds(self._operator, self.tenant_id))
        for hold in holds:
            decision = hold_service_pb2.ResolveHoldRequest(
                request_id=_id(), hold_id=hold.hold_id, reason="everything was sent again", actor="fault driver"
            )
            await self._repeated(lambda new=decision: self._operator.services.holds.ResolveHold(new))  # type: ignore[misc]

    async def unrecorded(self, event_ids: list[str]) -> list[str]:
        """Which of these ids the log does not have, by GetEventStatus."""
        keys = [usage_service_pb2.EventKey(source=workload.SOURCE, event_id=event_id) for event_id in event_ids]
        missing: list[str] = []
        for at in range(0, len(keys), 1000):
            asked = usage_service_pb2.GetEventStatusRequest(keys=keys[at : at + 1000])
            answer = await self._repeated(lambda asked=asked: self._client.services.usage.GetEventStatus(asked))  # type: ignore[misc]
            missing += [status.key.event_id for status in answer.statuses if not status.meter_ids]
        return missing

    async def invoices(self) -> list[invoice_pb2.Invoice]:
        """All invoices, by the public API."""
        return await self._repeated(lambda: all_invoices(self._client))

    async def reconciliations(self) -> Checks:
        """What the four services say of themselves."""
        period = period_pb2.Period(start=_stamp(workload.START), end=_stamp(workload.END))
        return await self._repeated(lambda: all_checks(self._client, period))

    async def _not_issued(self) -> str | None:
        request = invoice_service_pb2.GetBillingProgressRequest()
        progress = await self._client.services.invoices.GetBillingProgress(request)
        if progress.due_periods:
            return f"{progress.due_periods} periods are due; holds: {', '.join(progress.holds) or 'none'}"
        issued = len(await all_invoices(self._client))
        return None if issued >= len(workload.CUSTOMERS) else f"{issued} invoices are issued"

    async def _not_tried(self) -> str | None:
        settled = (payment_pb2.PAYMENT_STATE_SUCCEEDED, payment_pb2.PAYMENT_STATE_SCHEDULED)
        payments = await all_payments(self._client)
        tried = sum(payment.state in settled and bool(payment.attempts) for payment in payments)
        return None if tried >= len(workload.CUSTOMERS) else f"{tried} payments were tried"

    async def _not_paid(self) -> str | None:
        paid = len(await all_invoices(self._client, state=invoice_pb2.INVOICE_STATE_PAID))
        return None if paid >= len(workload.CUSTOMERS) else f"{paid} invoices are paid"

    async def _advance(self, to: datetime) -> None:
        request = tenant_service_pb2.AdvanceClockRequest(request_id=_id(), tenant_id=self.tenant_id, time=_stamp(to))
        op = self._history.invoke("advance_clock", tenant=self.tenant_id, to=to.isoformat())
        await self._repeated(lambda: self._operator.services.tenants.AdvanceClock(request))
        self._history.end(op, OK, "advance_clock")

    async def _until(self, missing: Callable[[], Awaitable[str | None]]) -> None:
        deadline = time.monotonic() + self._patience_s
        while problem := await self._repeated(missing):
            if time.monotonic() > deadline:
                raise Stuck(f"{self.tenant_id}: {problem}")
            await asyncio.sleep(_POLL_S)

    async def _repeated(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return await call()
            except (Unavailable, NotAllowed) as error:  # Keys are unknown until a wiped directory is there again.
                problem: SteelyardError = error
            self._history.note("call_failed", tenant=self.tenant_id, error=str(problem)[:200], outcome=UNKNOWN)
            if time.monotonic() > deadline:
                raise Stuck(f"{self.tenant_id}: no answer: {problem}") from problem
            await asyncio.sleep(_POLL_S)


def _id() -> str:
    return str(uuid.uuid4())


def _stamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
