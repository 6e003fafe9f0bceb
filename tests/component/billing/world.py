"""Billing over a real database, with its peers faked and its clocks in the test's hand."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from libs.clock import monotonic_s
from libs.database import Database
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.customer import Customer
from services.billing.domain.invoice import Invoice, InvoiceState
from services.billing.domain.subscription import BillingAnchor
from services.billing.domain.tenant import Tenant
from services.billing.domain.watermark import ReceivedWatermark
from services.billing.messaging.encode import encode_fact
from services.billing.store.queues import PostgresQueues
from services.billing.store.unit_of_work import PostgresUnitOfWork
from services.billing.store.watermarks import PostgresWatermarks
from services.billing.usecases.advance_clock import AdvanceClock
from services.billing.usecases.cancel_subscription import CancelSubscription
from services.billing.usecases.change_rate_card import ChangeRateCard
from services.billing.usecases.close_periods import ClosePeriods
from services.billing.usecases.create_customer import CreateCustomer
from services.billing.usecases.create_subscription import CreateSubscription, SubscriptionOrder
from services.billing.usecases.create_tenant import CreateTenant
from services.billing.usecases.extend_periods import ExtendPeriods
from services.billing.usecases.get_invoices import BillingProgress, GetBillingProgress, ListInvoices
from services.billing.usecases.get_subscriptions import SubscriptionView
from services.billing.usecases.request import Request
from services.billing.usecases.void_invoice import VoidInvoice
from tests.unit.billing.fakes import FakeDirectory, FakePayments, FakeRating, MovingClock, utc

REAL_NOW = utc(2026, 1, 1, 12)
EPOCH = utc(2020, 1, 1)


@dataclass
class World:
    """Everything a test needs; `real` is the real time of all parts."""

    api_database: Database
    worker_database: Database
    real: MovingClock = field(default_factory=lambda: MovingClock(REAL_NOW))
    rating: FakeRating = field(default_factory=FakeRating)
    payments: FakePayments = field(default_factory=FakePayments)
    directory: FakeDirectory = field(default_factory=FakeDirectory)
    _watermarks: int = 0

    def __post_init__(self) -> None:
        self.api = PostgresUnitOfWork(self.api_database, encode_fact, self.real)
        self.worker = PostgresUnitOfWork(self.worker_database, encode_fact, self.real)
        self.queues = PostgresQueues(self.worker_database)
        self.watermarks = PostgresWatermarks(self.worker_database)
        self.void = VoidInvoice(unit_of_work=self.api, payments=self.payments, clock=self.real)

    async def add_tenant(self, tenant_id: str, test_time: datetime | None = None, *, grace_s: int = 0) -> None:
        tenant = Tenant(tenant_id, "", grace_s, False, 100, 100, "INV", EPOCH)
        create = CreateTenant(unit_of_work=self.api, directory=self.directory, clock=self.real, test_clocks=True)
        await create(request=a_request("CreateTenant"), tenant=tenant, test_time=test_time)

    async def add_customer(self, tenant_id: str, customer_id: str = "cust-01", zone: str = "UTC") -> None:
        create = CreateCustomer(unit_of_work=self.api, directory=self.directory, clock=self.real)
        customer = Customer(customer_id, "", zone, datetime.min.replace(tzinfo=UTC))
        await create(request=a_request("CreateCustomer"), tenant_id=tenant_id, customer=customer)

    async def subscribe(
        self,
        tenant_id: str,
        subscription_id: str = "sub-01",
        *,
        starts_on: date | None = None,
        anchor: BillingAnchor = BillingAnchor.ANNIVERSARY,
        customer_id: str = "cust-01",
        currency: str = "",
        request: Request | None = None,
    ) -> SubscriptionView:
        create = CreateSubscription(unit_of_work=self.api, rating=self.rating, clock=self.real)
        order = SubscriptionOrder(subscription_id, customer_id, "standard", starts_on, anchor, currency)
        return await create(request=request or a_request("CreateSubscription"), tenant_id=tenant_id, order=order)

    async def cancel(
        self,
        tenant_id: str,
        subscription_id: str = "sub-01",
        *,
        last_date: date | None = None,
        request: Request | None = None,
    ) -> SubscriptionView:
        cancel = CancelSubscription(unit_of_work=self.api, clock=self.real)
        return await cancel(
            request=request or a_request("CancelSubscription"),
            tenant_id=tenant_id,
            subscription_id=subscription_id,
            last_date=last_date,
        )

    async def change_card(
        self,
        tenant_id: str,
        rate_card_id: str,
        subscription_id: str = "sub-01",
        *,
        first_date: date | None = None,
        request: Request | None = None,
    ) -> SubscriptionView:
        change = ChangeRateCard(unit_of_work=self.api, rating=self.rating, clock=self.real)
        return await change(
            request=request or a_request("ChangeRateCard"),
            tenant_id=tenant_id,
            subscription_id=subscription_id,
            rate_card_id=rate_card_id,
            first_date=first_date,
        )

    async def advance(self, tenant_id: str, to: datetime) -> datetime:
        advance = AdvanceClock(unit_of_work=self.api, directory=self.directory, clock=self.real, test_clocks=True)
        return await advance(request=a_request("AdvanceClock"), tenant_id=tenant_id, to=to)

    async def pass_watermark(self, *holds: tuple[str, str]) -> None:
        """Rating's watermark passes the present real time; the clock goes on a second."""
        self.real.at += timedelta(seconds=1)
        self._watermarks += 1
        await self.watermarks.receive([ReceivedWatermark(EPOCH, self._watermarks, self.real.at, holds)])
        await self.watermarks.count_through(EPOCH, self._watermarks)

    def closer(self, rating: FakeRating | None = None) -> ClosePeriods:
        return ClosePeriods(unit_of_work=self.worker, queues=self.queues, rating=rating or self.rating, clock=self.real)

    async def bill(self) -> None:
        """Work until nothing is left to do without the watermark, let it pass, and work again."""
        await self.work()
        await self.pass_watermark()
        await self.work()

    async def work(self) -> None:
        extend = ExtendPeriods(unit_of_work=self.worker, queues=self.queues, clock=self.real)
        close = self.closer()
        while await extend() + await close():
            pass

    async def invoices(self, tenant_id: str, state: InvoiceState | None = None) -> list[Invoice]:
        """Oldest first."""
        found = await ListInvoices(unit_of_work=self.api)(
            tenant_id=tenant_id, customer_id="", state=state, before="", limit=1_000
        )
        return found[::-1]

    async def progress(self, tenant_id: str) -> BillingProgress:
        return await GetBillingProgress(unit_of_work=self.api, clock=self.real)(tenant_id=tenant_id)

    async def apply(self, tenant_id: str, charges: Sequence[Charge]) -> None:
        async with self.worker(tenant_id) as work:
            await work.charges.apply(charges)


def a_request(method: str, *meaning: object, request_id: str = "") -> Request:
    return Request.of(method, request_id or str(uuid.uuid4()), *meaning)


def a_key(period_start: datetime, subscription_id: str = "sub-01") -> PeriodKey:
    return PeriodKey(subscription_id, period_start)


async def eventually(holds: Callable[[], Awaitable[bool]], *, timeout_s: float = 20) -> None:
    """Return as soon as it holds."""
    ends_at = monotonic_s() + timeout_s
    while not await holds():
        assert monotonic_s() < ends_at, "it did not come true"
        await asyncio.sleep(0.05)
