"""Payments as a whole, over fakes or over PostgreSQL, with both clocks in the test's hand."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from libs.money import Money
from services.payments.domain.attempt import Attempt
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.domain.manual_settlement import ManualOutcome
from services.payments.domain.method import PaymentMethod
from services.payments.domain.payment import Payment
from services.payments.domain.retries import DEFAULT_MAX_CARD_TRIES
from services.payments.usecases.begin_attempts import CLAIM
from services.payments.usecases.cancel_payment import CancelPayment
from services.payments.usecases.collect_payments import CollectPayments
from services.payments.usecases.get_payments import GetLedger, GetPayments
from services.payments.usecases.ports import (
    BilledInvoice,
    DueTasks,
    Gateway,
    LedgerSummary,
    PaymentFilter,
    PaymentKey,
    TaskKind,
    UnitOfWork,
)
from services.payments.usecases.reconcile import Check, Reconcile
from services.payments.usecases.record_invoices import InvoiceFact, RecordInvoices
from services.payments.usecases.set_payment_method import SetPaymentMethod
from services.payments.usecases.settle_attempt import SettleAttempt
from tests.unit.payments.fakes import FakeBilling, FakeDatabase, FakeGateway, FakeTimes, MovingClock

REAL_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEST_NOW = datetime(2030, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ACME = "acme"


def eur(minor_units: int) -> Money:
    return Money(minor_units, "EUR")


def a_request_id() -> str:
    return str(uuid.uuid4())


def issued(
    invoice_id: str = "inv_1",
    *,
    tenant_id: str = ACME,
    customer_id: str = "cust-01",
    minor_units: int = 1999,
    trace_parent: str = "",
) -> IssuedInvoice:
    number = f"INV-{invoice_id}"
    return IssuedInvoice(tenant_id, invoice_id, number, customer_id, eur(minor_units), TEST_NOW, trace_parent)


def voided(invoice_id: str = "inv_1", *, tenant_id: str = ACME, minor_units: int = 1999) -> VoidedInvoice:
    return VoidedInvoice(tenant_id, invoice_id, eur(minor_units), TEST_NOW + DAY)


def as_fact(fact: IssuedInvoice | VoidedInvoice) -> InvoiceFact:
    verb = "issued" if isinstance(fact, IssuedInvoice) else "voided"
    return InvoiceFact(f"{fact.tenant_id}:invoice-{verb}:{fact.invoice_id}", repr(fact).encode(), fact)


@dataclass
class World:
    """`worker` and `api` open transactions as the two logins. ACME lives on a test clock, other tenants do not."""

    worker: UnitOfWork
    api: UnitOfWork
    due: DueTasks
    gateway: Gateway
    clock: MovingClock = field(default_factory=lambda: MovingClock(REAL_NOW))
    billing: FakeBilling = field(default_factory=FakeBilling)

    def __post_init__(self) -> None:
        self.times = FakeTimes(self.clock, {ACME: TEST_NOW})

    async def hear(self, *facts: IssuedInvoice | VoidedInvoice) -> int:
        """Billing's facts arrive in one batch."""
        record = RecordInvoices(unit_of_work=self.worker, clock=self.clock)
        return await record([as_fact(fact) for fact in facts])

    async def set_method(
        self, token: str, *, customer_id: str = "cust-01", tenant_id: str = ACME, request_id: str | None = None
    ) -> PaymentMethod:
        set_method = SetPaymentMethod(self.api, self.clock, self.times)
        request_id = a_request_id() if request_id is None else request_id
        return await set_method(
            tenant_id=tenant_id, request_id=request_id, customer_id=customer_id, gateway_token=token
        )

    async def cancel(
        self, invoice_id: str = "inv_1", *, tenant_id: str = ACME, request_id: str | None = None
    ) -> tuple[Payment, list[Attempt]] | None:
        cancel = CancelPayment(self.api, self.clock)
        return await cancel(
            tenant_id=tenant_id, request_id=a_request_id() if request_id is None else request_id, invoice_id=invoice_id
        )

    async def settle(
        self,
        outcome: ManualOutcome,
        reference: str = "",
        *,
        invoice_id: str = "inv_1",
        payment_id: str | None = None,
        number: int = 1,
        reason: str = "seen in the gateway's console",
        actor: str = "jo",
        request_id: str | None = None,
    ) -> tuple[Payment, list[Attempt]]:
        """A person says what became of an attempt."""
        if payment_id is None:
            payment_id = (await self.payment(invoice_id))[0].payment_id
        return await SettleAttempt(self.api, self.clock, self.times)(
            tenant_id=ACME,
            request_id=a_request_id() if request_id is None else request_id,
            payment_id=payment_id,
            attempt_number=number,
            outcome=outcome,
            gateway_reference=reference,
            reason=reason,
            actor=actor,
        )

    def collector(self, due: DueTasks | None = None) -> CollectPayments:
        return CollectPayments(
            unit_of_work=self.worker,
            due=due or self.due,
            gateway=self.gateway,
            clock=self.clock,
            times=self.times,
            max_card_tries=DEFAULT_MAX_CARD_TRIES,
        )

    async def claim(self, limit: int = 100) -> dict[PaymentKey, TaskKind]:
        """Take what is due, as a process that does not get any further."""
        now = self.clock()
        return await self.due.claim(now=now, until=now + CLAIM, tenant_times=self.times.test_times(), limit=limit)

    async def collect(self) -> int:
        """Collect until nothing is due; returns how many tasks were handled."""
        collect, handled = self.collector(), 0
        while count := await collect():
            handled += count
        return handled

    async def collect_after(self, *, real: timedelta = timedelta(0), test: timedelta = timedelta(0)) -> int:
        """Let time go on, then collect."""
        self.clock.at += real
        self.times.tests[ACME] += test
        return await self.collect()

    async def claims_run_out(self) -> int:
        return await self.collect_after(real=CLAIM)

    async def payment(self, invoice_id: str = "inv_1", *, tenant_id: str = ACME) -> tuple[Payment, list[Attempt]]:
        return await GetPayments(self.api).of_invoice(tenant_id, invoice_id)

    async def payments(self, tenant_id: str = ACME) -> list[tuple[Payment, list[Attempt]]]:
        return await GetPayments(self.api).page(tenant_id, PaymentFilter(), before="", limit=1_000)

    async def ledger(self, tenant_id: str = ACME) -> LedgerSummary:
        return await GetLedger(self.api).summary(tenant_id)

    async def balances(self, tenant_id: str = ACME) -> dict[str, int]:
        return {account: balance.minor_units for account, balance in (await self.ledger(tenant_id)).balances}

    async def reconcile(self, *billed: BilledInvoice, tenant_id: str = ACME) -> Sequence[Check]:
        self.billing.billed = list(billed)
        return await Reconcile(self.api, self.billing, self.gateway)(tenant_id, None)


@dataclass
class FakeGatewayWorld(World):
    """With a gateway that does what a test says."""

    gateway: FakeGateway


@dataclass
class FakeWorld(FakeGatewayWorld):
    """Over fakes throughout."""

    database: FakeDatabase = field(kw_only=True)

    @classmethod
    def make(cls) -> FakeWorld:
        database = FakeDatabase()
        return cls(
            worker=database.transaction,
            api=database.transaction,
            due=database,
            gateway=FakeGateway(),
            database=database,
        )
