"""Stand-ins for what payments needs from outside. The stores pass the same tests as those over PostgreSQL."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from libs.errors import RequestIdReused
from libs.money import Money
from libs.periods import Period
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.events import IssuedInvoice, PaymentFact, VoidedInvoice
from services.payments.domain.gateway import Captured, ChargeRequest, Declined, GatewayCharge, NeverSeen, Outcome
from services.payments.domain.ledger import LedgerTransaction
from services.payments.domain.manual_settlement import ManualSettlement
from services.payments.domain.method import PaymentMethod
from services.payments.domain.payment import Payment, PaymentNotFound, PaymentState
from services.payments.domain.retries import CardHistory
from services.payments.usecases.ports import (
    AttemptKey,
    BilledInvoice,
    Card,
    InvoiceKey,
    LedgerSummary,
    OpenPayment,
    PaymentFilter,
    PaymentKey,
    PaymentWithAttempts,
    Task,
    TaskKind,
    UnitOfWork,
    Work,
)

OPEN = (AttemptState.CREATED, AttemptState.UNKNOWN, AttemptState.SUCCEEDED)


class Crash(BaseException):
    """The process dies here."""


class Refused(Exception):
    """What a constraint of the database would refuse."""


@dataclass
class MovingClock:
    """Real time in the test's hand."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at


@dataclass
class FakeTimes:
    """Tenants on test clocks; the others follow the real one."""

    real: MovingClock
    tests: dict[str, datetime] = field(default_factory=dict)

    def now(self, tenant_id: str) -> datetime:
        return self.tests.get(tenant_id, self.real.at)

    def test_times(self) -> dict[str, datetime]:
        return dict(self.tests)


@dataclass(frozen=True)
class InvoiceRow:
    total: Money | None = None
    customer_id: str = ""
    captured: int = 0
    collectable: bool = True
    voided_at: datetime | None = None


@dataclass
class Tables:
    """Everything that is stored; values are immutable, so that a copy of the dictionaries is a snapshot."""

    requests: dict[tuple[str, str, str], tuple[bytes, str]] = field(default_factory=dict)
    inbox: dict[tuple[str, str], bytes] = field(default_factory=dict)
    invoices: dict[InvoiceKey, InvoiceRow] = field(default_factory=dict)
    payments: dict[PaymentKey, Payment] = field(default_factory=dict)
    attempts: dict[tuple[str, str, int], Attempt] = field(default_factory=dict)
    methods: dict[tuple[str, str], PaymentMethod] = field(default_factory=dict)
    current: dict[tuple[str, str], PaymentMethod] = field(default_factory=dict)
    ledger: dict[tuple[str, str], LedgerTransaction] = field(default_factory=dict)
    tasks: dict[PaymentKey, tuple[Task, datetime | None]] = field(default_factory=dict)
    facts: list[PaymentFact] = field(default_factory=list)
    manual_settlements: dict[AttemptKey, ManualSettlement] = field(default_factory=dict)

    def snapshot(self) -> dict[str, object]:
        return {name: copy.copy(table) for name, table in vars(self).items()}

    def restore(self, snapshot: dict[str, object]) -> None:
        vars(self).update(snapshot)


class FakeDatabase:
    """One transaction at a time."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, *tenant_ids: str) -> AsyncIterator[FakeWork]:
        async with self._turn:
            before = self.tables.snapshot()
            try:
                yield FakeWork(self.tables, frozenset(tenant_ids))
            except BaseException:
                self.tables.restore(before)
                raise

    async def claim(
        self, *, now: datetime, until: datetime, tenant_times: Mapping[str, datetime], limit: int
    ) -> dict[PaymentKey, TaskKind]:
        def is_due(key: PaymentKey, task: Task, claimed_until: datetime | None) -> bool:
            clock = tenant_times.get(key[0], now) if task.kind is TaskKind.COLLECT else now
            return task.due_at <= clock and (claimed_until is None or claimed_until <= now)

        found = [
            (task.due_at, key, task) for key, (task, claim) in self.tables.tasks.items() if is_due(key, task, claim)
        ]
        chosen = sorted(found, key=lambda item: item[:2])[:limit]
        self.tables.tasks.update({key: (task, until) for _, key, task in chosen})
        return {key: task.kind for _, key, task in chosen}


class Mortal:
    """A unit of work around whose commits the process dies, the given number of steps from now."""

    def __init__(self, inner: UnitOfWork) -> None:
        self._inner = inner
        self.dies_after: int | None = None

    @asynccontextmanager
    async def __call__(self, *tenant_ids: str) -> AsyncIterator[Work]:
        async with self._inner(*tenant_ids) as work:
            yield work
            self._step()
        self._step()

    def _step(self) -> None:
        if self.dies_after is None:
            return
        self.dies_after -= 1
        if self.dies_after < 0:
            self.dies_after = None
            raise Crash


class FakeWork:
    """Sees and changes rows of the named tenants only."""

    def __init__(self, tables: Tables, tenants: frozenset[str]) -> None:
        self.tables, self.tenants = tables, tenants
        self.requests = FakeRequests(self)
        self.invoices = FakeInvoices(self)
        self.payments = FakePayments(self)
        self.attempts = FakeAttempts(self)
        self.methods = FakeMethods(self)
        self.ledger = FakeLedger(self)
        self.tasks = FakeTasks(self)

    def require(self, tenant_id: str) -> None:
        if tenant_id not in self.tenants:
            raise Refused(f"row-level security: {tenant_id}")

    async def first_deliveries(self, facts: Sequence[tuple[str, str, bytes]], now: datetime) -> set[str]:
        first = {event_id for tenant_id, event_id, _ in facts if (tenant_id, event_id) not in self.tables.inbox}
        for tenant_id, event_id, body in facts:
            self.require(tenant_id)
            self.tables.inbox.setdefault((tenant_id, event_id), body)
        return first

    async def announce(self, facts: Sequence[PaymentFact], now: datetime) -> None:
        for fact in facts:
            self.require(fact.payment.tenant_id)
        self.tables.facts = [*self.tables.facts, *facts]


class _Part:
    def __init__(self, work: FakeWork) -> None:
        self.work, self.tables = work, work.tables


class FakeRequests(_Part):
    async def claim(
        self, tenant_id: str, method: str, request_id: str, fingerprint: bytes, result_id: str, now: datetime
    ) -> str | None:
        key = (tenant_id, method, request_id)
        if key not in self.tables.requests:
            self.tables.requests[key] = (fingerprint, result_id)
            return None
        if self.tables.requests[key][0] != fingerprint:
            raise RequestIdReused("another request")
        return self.tables.requests[key][1]


class FakeInvoices(_Part):
    async def add(self, invoices: Sequence[IssuedInvoice]) -> dict[InvoiceKey, datetime | None]:
        forbidden: dict[InvoiceKey, datetime | None] = {}
        for invoice in invoices:
            key = (invoice.tenant_id, invoice.invoice_id)
            row = replace(self._row(key), total=invoice.total, customer_id=invoice.customer_id)
            self.tables.invoices[key] = row
            if not row.collectable:
                forbidden[key] = row.voided_at
        return forbidden

    async def void(self, voided: Sequence[VoidedInvoice]) -> dict[InvoiceKey, str]:
        customers: dict[InvoiceKey, str] = {}
        for invoice in voided:
            key = (invoice.tenant_id, invoice.invoice_id)
            row = replace(self._row(key), collectable=False, voided_at=invoice.voided_at)
            self.tables.invoices[key] = row
            if row.customer_id:
                customers[key] = row.customer_id
        return customers

    async def forbid(self, tenant_id: str, invoice_id: str) -> None:
        key = (tenant_id, invoice_id)
        self.tables.invoices[key] = replace(self._row(key), collectable=False)

    async def capture(self, payments: Sequence[Payment]) -> None:
        for payment in payments:
            key = (payment.tenant_id, payment.invoice_id)
            row = self._row(key)
            captured = row.captured + payment.amount.minor_units
            if row.total is None or captured > row.total.minor_units:
                raise Refused(f"{captured} captured for {key}, which is over {row.total}")
            self.tables.invoices[key] = replace(row, captured=captured)

    def _row(self, key: InvoiceKey) -> InvoiceRow:
        self.work.require(key[0])
        return self.tables.invoices.get(key, InvoiceRow())


class FakePayments(_Part):
    async def add(self, payments: Sequence[Payment]) -> None:
        await self.save(payments)

    async def save(self, payments: Sequence[Payment]) -> None:
        for payment in payments:
            self.work.require(payment.tenant_id)
            self.tables.payments[payment.tenant_id, payment.payment_id] = payment
        live = [
            (p.tenant_id, p.invoice_id) for p in self.tables.payments.values() if p.state is not PaymentState.CANCELED
        ]
        if len(live) > len(set(live)):
            raise Refused("two live payments for an invoice")

    async def lock_open(self, keys: Iterable[PaymentKey], *, to_begin: bool = False) -> list[OpenPayment]:
        found: list[OpenPayment] = []
        for key in sorted(keys):
            if (payment := self.tables.payments.get(key)) is not None and key[0] in self.work.tenants:
                attempts = self._attempts(payment)
                method = self.tables.current.get((payment.tenant_id, payment.customer_id))
                newest = attempts[-1] if attempts else None
                found.append(OpenPayment(payment, newest, method.gateway_token if method else ""))
        return found

    async def lock_of_invoice(self, tenant_id: str, invoice_id: str) -> Payment | None:
        found = [payment for payment in self._of(tenant_id) if payment.invoice_id == invoice_id]
        return max(found, key=lambda p: (p.state is not PaymentState.CANCELED, p.payment_id), default=None)

    async def lock_live(self, invoice_ids: Sequence[InvoiceKey]) -> list[Payment]:
        return [
            payment
            for payment in self.tables.payments.values()
            if (payment.tenant_id, payment.invoice_id) in invoice_ids and payment.state is not PaymentState.CANCELED
        ]

    async def lock_waiting(self, tenant_id: str, customer_id: str) -> list[Payment]:
        return [
            payment
            for payment in self._of(tenant_id)
            if payment.customer_id == customer_id and payment.state is PaymentState.REQUIRES_METHOD
        ]

    async def get(self, tenant_id: str, payment_id: str) -> tuple[Payment, list[Attempt]]:
        return self._newest(tenant_id, lambda payment: payment.payment_id == payment_id)

    async def newest_of_invoice(self, tenant_id: str, invoice_id: str) -> tuple[Payment, list[Attempt]]:
        return self._newest(tenant_id, lambda payment: payment.invoice_id == invoice_id)

    async def page(self, tenant_id: str, wanted: PaymentFilter, before: str, limit: int) -> list[PaymentWithAttempts]:
        def is_wanted(payment: Payment, attempts: list[Attempt]) -> bool:
            last = attempts[-1].state if attempts else None
            return (
                wanted.customer_id in ("", payment.customer_id)
                and wanted.state in (None, payment.state)
                and wanted.last_attempt in (None, last)
                and (not before or payment.payment_id < before)
            )

        found = [(payment, self._attempts(payment)) for payment in self._of(tenant_id)]
        return [pair for pair in found[::-1] if is_wanted(*pair)][:limit]

    async def all_of_invoices(
        self, tenant_id: str, invoice_ids: Sequence[str] | None
    ) -> list[tuple[Payment, list[Attempt]]]:
        found = [p for p in self._of(tenant_id) if invoice_ids is None or p.invoice_id in invoice_ids]
        return [(payment, self._attempts(payment)) for payment in found]

    def _of(self, tenant_id: str) -> list[Payment]:
        if tenant_id not in self.work.tenants:
            return []
        found = [payment for payment in self.tables.payments.values() if payment.tenant_id == tenant_id]
        return sorted(found, key=lambda payment: payment.payment_id)

    def _attempts(self, payment: Payment) -> list[Attempt]:
        key = (payment.tenant_id, payment.payment_id)
        return [self.tables.attempts[k] for k in sorted(self.tables.attempts) if k[:2] == key]

    def _newest(self, tenant_id: str, wanted: Callable[[Payment], bool]) -> tuple[Payment, list[Attempt]]:
        found = [payment for payment in self._of(tenant_id) if wanted(payment)]
        if not found:
            raise PaymentNotFound("no such payment")
        return found[-1], self._attempts(found[-1])


class FakeAttempts(_Part):
    async def add(self, keyed: Sequence[tuple[str, Attempt]]) -> None:
        for tenant_id, attempt in keyed:
            if (tenant_id, attempt.payment_id, attempt.number) in self.tables.attempts:
                raise Refused(f"attempt {attempt.number} exists")
        await self.save(keyed)

    async def save(self, keyed: Sequence[tuple[str, Attempt]]) -> None:
        for tenant_id, attempt in keyed:
            self.work.require(tenant_id)
            self.tables.attempts[tenant_id, attempt.payment_id, attempt.number] = attempt
        unfinished = [key[:2] for key, attempt in self.tables.attempts.items() if attempt.state in OPEN]
        if len(unfinished) > len(set(unfinished)):
            raise Refused("two open attempts of a payment")
        paid = [
            (key[0], attempt.gateway_charge_id)
            for key, attempt in self.tables.attempts.items()
            if attempt.state is AttemptState.SUCCEEDED
        ]
        if len(paid) > len(set(paid)):
            raise Refused("two payments by one charge")

    async def get(self, keys: Sequence[AttemptKey]) -> dict[AttemptKey, Attempt]:
        return {key: self.tables.attempts[key] for key in keys}

    async def card_histories(self, since: Mapping[Card, datetime]) -> dict[Card, CardHistory]:
        return {card: self._history(card, instant) for card, instant in since.items()}

    def _history(self, card: Card, since: datetime) -> CardHistory:
        tried = [
            attempt
            for (tenant_id, _, _), attempt in self.tables.attempts.items()
            if Card(tenant_id, attempt.customer_id, attempt.gateway_token) == card
        ]
        return CardHistory(
            hard_declined=any(attempt.state is AttemptState.DECLINED_HARD for attempt in tried),
            soft_declines=sum(a.state is AttemptState.DECLINED_SOFT and a.tried_at > since for a in tried),
            under_way=sum(not attempt.state.final for attempt in tried),
        )

    async def invoice_of_charge(self, tenant_id: str, charge_id: str) -> str | None:
        for key, attempt in self.tables.attempts.items():
            if (key[0], attempt.gateway_charge_id, attempt.state) == (tenant_id, charge_id, AttemptState.SUCCEEDED):
                return self.tables.payments[key[:2]].invoice_id
        return None

    async def add_manual_settlement(self, settled: ManualSettlement) -> None:
        self.work.require(settled.tenant_id)
        key = (settled.tenant_id, settled.payment_id, settled.attempt_number)
        if key in self.tables.manual_settlements:
            raise Refused(f"{key} was settled before")
        self.tables.manual_settlements[key] = settled


class FakeMethods(_Part):
    async def put(self, method: PaymentMethod) -> None:
        self.work.require(method.tenant_id)
        self.tables.methods[method.tenant_id, method.payment_method_id] = method
        self.tables.current[method.tenant_id, method.customer_id] = method

    async def get(self, tenant_id: str, payment_method_id: str) -> PaymentMethod:
        return self.tables.methods[tenant_id, payment_method_id]


class FakeLedger(_Part):
    async def post(self, transactions: Sequence[LedgerTransaction]) -> None:
        for transaction in transactions:
            self.work.require(transaction.tenant_id)
            self.tables.ledger.setdefault((transaction.tenant_id, transaction.transaction_id), transaction)

    async def summary(self, tenant_id: str) -> LedgerSummary:
        totals: dict[tuple[str, str], int] = defaultdict(int)
        found = [item for (tenant, _), item in self.tables.ledger.items() if tenant == tenant_id]
        for transaction in found:
            for entry in transaction.entries:
                totals[entry.account, entry.amount.currency] += entry.amount.minor_units
        balances = tuple((account, Money(minor, currency)) for (account, currency), minor in sorted(totals.items()))
        return LedgerSummary(balances, len(found), ())

    async def page(self, tenant_id: str, invoice_id: str, before: str, limit: int) -> list[LedgerTransaction]:
        newest = [item for (tenant, _), item in self.tables.ledger.items() if tenant == tenant_id][::-1]
        if before:
            newest = newest[[item.transaction_id for item in newest].index(before) + 1 :]
        return [item for item in newest if invoice_id in ("", item.invoice_id)][:limit]

    async def debits(self, tenant_id: str, invoice_ids: Sequence[str] | None) -> dict[str, int]:
        return {
            item.transaction_id: sum(max(entry.amount.minor_units, 0) for entry in item.entries)
            for (tenant, _), item in self.tables.ledger.items()
            if tenant == tenant_id and (invoice_ids is None or item.invoice_id in invoice_ids)
        }


class FakeTasks(_Part):
    async def put(self, tasks: Mapping[PaymentKey, Task]) -> None:
        self.tables.tasks.update({key: (task, None) for key, task in tasks.items()})

    async def remove(self, keys: Iterable[PaymentKey]) -> None:
        for key in keys:
            self.tables.tasks.pop(key, None)


@dataclass
class Claimed:
    """A process that claimed its tasks long ago."""

    tasks: dict[PaymentKey, TaskKind]

    async def claim(
        self, *, now: datetime, until: datetime, tenant_times: Mapping[str, datetime], limit: int
    ) -> dict[PaymentKey, TaskKind]:
        return self.tasks


async def nothing() -> None:
    """Nothing happens meanwhile."""


@dataclass
class Trouble:
    """What befalls the next call that reaches the gateway.

    `before` and `after` run around the gateway's work (another process may act there, or ours die); `lost` is True for
    a call that never arrives, `unanswered` for one whose answer never does.
    """

    lost: bool = False
    unanswered: bool = False
    before: Callable[[], Awaitable[None]] = nothing
    after: Callable[[], Awaitable[None]] = nothing


@dataclass
class FakeGateway:
    """Acts by the token: ok, soft, hard; `soft_then_ok` declines once for a reference. Keeps the first of each key."""

    charges: dict[tuple[str, str], tuple[ChargeRequest, Captured | Declined]] = field(default_factory=dict)
    trouble: list[Trouble] = field(default_factory=list)
    conflicts: list[ChargeRequest] = field(default_factory=list)
    calls: int = 0

    async def charge(self, tenant_id: str, request: ChargeRequest) -> Outcome:
        trouble = self._trouble()
        await trouble.before()
        if trouble.lost:
            raise TimeoutError
        first, outcome = self.charges.setdefault((tenant_id, request.idempotency_key), (request, self._decide(request)))
        if first != request:
            self.conflicts.append(request)
        await trouble.after()
        if trouble.unanswered:
            raise TimeoutError
        return outcome

    async def find(self, tenant_id: str, idempotency_key: str) -> Outcome | NeverSeen:
        trouble = self._trouble()
        await trouble.before()
        if trouble.lost or trouble.unanswered:
            raise TimeoutError
        known = self.charges.get((tenant_id, idempotency_key))
        return known[1] if known else NeverSeen()

    async def captures(self, tenant_id: str, references: Sequence[str] | None) -> list[GatewayCharge]:
        return [
            GatewayCharge(outcome.charge_id, key, request.reference, outcome.amount)
            for (tenant, key), (request, outcome) in self.charges.items()
            if tenant == tenant_id and isinstance(outcome, Captured)
            if references is None or request.reference in references
        ]

    def _trouble(self) -> Trouble:
        self.calls += 1
        return self.trouble.pop(0) if self.trouble else Trouble()

    def _decide(self, request: ChargeRequest) -> Captured | Declined:
        charge_id = f"ch_{len(self.charges) + 1}"
        seen = any(request.reference == earlier.reference for earlier, _ in self.charges.values())
        if request.token == "ok" or (request.token == "soft_then_ok" and seen):
            return Captured(charge_id, request.amount)
        return Declined(
            "no_money" if request.token.startswith("soft") else "stolen", request.token == "hard", charge_id
        )


@dataclass
class FakeBilling:
    """Answers with what a test says."""

    billed: list[BilledInvoice] = field(default_factory=list)

    async def invoices(self, tenant_id: str, period: Period | None) -> list[BilledInvoice]:
        return list(self.billed)
