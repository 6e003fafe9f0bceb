"""What the use cases need from outside: one transaction, the queue across tenants, the gateway, tenants' clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from libs.money import Money
from libs.periods import Period
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.events import IssuedInvoice, PaymentFact, VoidedInvoice
from services.payments.domain.gateway import ChargeRequest, GatewayCharge, NeverSeen, Outcome
from services.payments.domain.ledger import LedgerTransaction
from services.payments.domain.manual_settlement import ManualSettlement
from services.payments.domain.method import PaymentMethod
from services.payments.domain.payment import Payment, PaymentState
from services.payments.domain.retries import CardHistory

PaymentKey = tuple[str, str]
"""Tenant id and payment id."""
InvoiceKey = tuple[str, str]
"""Tenant id and invoice id."""
AttemptKey = tuple[str, str, int]
"""Tenant id, payment id and number."""


class TaskKind(StrEnum):
    """What is due for a payment: a try (on the tenant's clock), or a question to the gateway (in real time).

    A payment that is scheduled has the task of a try, one that is processing that of a question, others have none:
    state and task change in one transaction. So whoever finds the two at odds has waited for too long, and leaves both.
    """

    COLLECT = "collect"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Task:
    """Something due for a payment. `due_at` is on the clock of its kind."""

    kind: TaskKind
    due_at: datetime


class Card(NamedTuple):
    """What a try is made with. A token counts for one customer only: test tokens are everybody's."""

    tenant_id: str
    customer_id: str
    gateway_token: str


@dataclass(frozen=True, slots=True)
class OpenPayment:
    """A payment, locked, with its newest attempt (if any) and its customer's current method."""

    payment: Payment
    attempt: Attempt | None
    gateway_token: str


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """Balances by account and currency (debits positive), and the transactions and currencies that do not add up."""

    balances: tuple[tuple[str, Money], ...]
    transaction_count: int
    unbalanced: tuple[str, ...]


PaymentWithAttempts = tuple[Payment, list[Attempt]]
"""Oldest attempt first."""


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """Which payments are wanted; what is empty or None does not matter."""

    customer_id: str = ""
    state: PaymentState | None = None
    last_attempt: AttemptState | None = None
    """The state of the newest attempt."""


class Requests(Protocol):
    async def claim(
        self, tenant_id: str, method: str, request_id: str, fingerprint: bytes, result_id: str, now: datetime
    ) -> str | None:
        """See libs.database.RequestLog.claim."""


class Invoices(Protocol):
    """What payments knows of billing's invoices, one row each; whoever changes anything about one locks its row first.

    The facts that an invoice was issued and voided may come in any order.
    """

    async def add(self, invoices: Sequence[IssuedInvoice]) -> dict[InvoiceKey, datetime | None]:
        """Store issued invoices in one order, locked.

        Returns those that are not to be collected, with the instant at which they were voided if they were.
        """

    async def void(self, voided: Sequence[VoidedInvoice]) -> dict[InvoiceKey, str]:
        """Never collect these from now on; returns the customers of those that are known to be issued."""

    async def forbid(self, tenant_id: str, invoice_id: str) -> None:
        """Lock an invoice, known or not, and never collect it from now on."""

    async def capture(self, payments: Sequence[Payment]) -> None:
        """Add captured amounts; the database refuses more than an invoice's total."""


class Payments(Protocol):
    async def add(self, payments: Sequence[Payment]) -> None: ...

    async def lock_open(self, keys: Iterable[PaymentKey], *, to_begin: bool = False) -> list[OpenPayment]:
        """The payments that exist; their customers' methods, invoices and themselves locked in this order.

        The lock of a method is shared, except `to_begin`: who begins attempts counts those of its card.
        """

    async def lock_of_invoice(self, tenant_id: str, invoice_id: str) -> Payment | None:
        """The invoice's payment, locked; the invoice must be. A live one before a cancelled one."""

    async def lock_live(self, invoice_ids: Sequence[InvoiceKey]) -> list[Payment]:
        """The payments of these invoices that are not cancelled, locked; the invoices must be."""

    async def lock_waiting(self, tenant_id: str, customer_id: str) -> list[Payment]:
        """The customer's payments that need a method, locked."""

    async def save(self, payments: Sequence[Payment]) -> None: ...

    async def get(self, tenant_id: str, payment_id: str) -> tuple[Payment, list[Attempt]]:
        """:raises PaymentNotFound: if there is none"""

    async def newest_of_invoice(self, tenant_id: str, invoice_id: str) -> tuple[Payment, list[Attempt]]:
        """:raises PaymentNotFound: if there is none"""

    async def page(self, tenant_id: str, wanted: PaymentFilter, before: str, limit: int) -> list[PaymentWithAttempts]:
        """Newest first."""

    async def all_of_invoices(
        self, tenant_id: str, invoice_ids: Sequence[str] | None
    ) -> list[tuple[Payment, list[Attempt]]]:
        """Every payment of the invoices (None: of the tenant), cancelled ones included."""


class Attempts(Protocol):
    """Whoever writes one has locked its payment."""

    async def add(self, keyed: Sequence[tuple[str, Attempt]]) -> None:
        """Store new attempts by tenant."""

    async def save(self, keyed: Sequence[tuple[str, Attempt]]) -> None:
        """Store what became of attempts by tenant."""

    async def get(self, keys: Sequence[AttemptKey]) -> dict[AttemptKey, Attempt]:
        """These attempts, which exist."""

    async def card_histories(self, since: Mapping[Card, datetime]) -> dict[Card, CardHistory]:
        """What became of the tries of each card that did not capture, with those made after its instant counted."""

    async def invoice_of_charge(self, tenant_id: str, charge_id: str) -> str | None:
        """The invoice that a charge of the gateway has paid."""

    async def add_manual_settlement(self, settled: ManualSettlement) -> None:
        """Keep who settled an attempt, and why."""


class Methods(Protocol):
    async def put(self, method: PaymentMethod) -> None:
        """Store a method as its customer's current one, locked: who decides by it comes before or after."""

    async def get(self, tenant_id: str, payment_method_id: str) -> PaymentMethod: ...


class Ledger(Protocol):
    async def post(self, transactions: Sequence[LedgerTransaction]) -> None:
        """Add transactions; one whose id is there already changes nothing."""

    async def summary(self, tenant_id: str) -> LedgerSummary: ...

    async def page(self, tenant_id: str, invoice_id: str, before: str, limit: int) -> list[LedgerTransaction]:
        """Newest first."""

    async def debits(self, tenant_id: str, invoice_ids: Sequence[str] | None) -> dict[str, int]:
        """By transaction id what it moves, in minor units; only of the invoices (None: of all)."""


class TaskQueue(Protocol):
    async def put(self, tasks: Mapping[PaymentKey, Task]) -> None:
        """Set what is due for payments, and end every claim on them."""

    async def remove(self, keys: Iterable[PaymentKey]) -> None:
        """Nothing is due for these payments."""


class Work(Protocol):
    """One transaction."""

    @property
    def requests(self) -> Requests: ...
    @property
    def invoices(self) -> Invoices: ...
    @property
    def payments(self) -> Payments: ...
    @property
    def attempts(self) -> Attempts: ...
    @property
    def methods(self) -> Methods: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def tasks(self) -> TaskQueue: ...

    async def first_deliveries(self, facts: Sequence[tuple[str, str, bytes]], now: datetime) -> set[str]:
        """Record (tenant, event id, body) as handled; returns the ids that were not handled before."""

    async def announce(self, facts: Sequence[PaymentFact], now: datetime) -> None:
        """Publish facts after the commit."""


class UnitOfWork(Protocol):
    def __call__(self, *tenant_ids: str) -> AbstractAsyncContextManager[Work]: ...


class DueTasks(Protocol):
    async def claim(
        self, *, now: datetime, until: datetime, tenant_times: Mapping[str, datetime], limit: int
    ) -> dict[PaymentKey, TaskKind]:
        """Take what is due: nobody else gets it before `until`. `tenant_times` are the tenants on test clocks."""


class Gateway(Protocol):
    """A payment gateway. `charge` and `find` answer NoAnswer for whatever the gateway or the network does."""

    async def charge(self, tenant_id: str, request: ChargeRequest) -> Outcome:
        """Take money under an idempotency key: repeated, it has its effect once."""

    async def find(self, tenant_id: str, idempotency_key: str) -> Outcome | NeverSeen:
        """Ask what became of a key."""

    async def captures(self, tenant_id: str, references: Sequence[str] | None) -> list[GatewayCharge]:
        """The gateway's own record of what was captured for our references (None: for the tenant)."""


@dataclass(frozen=True, slots=True)
class BilledInvoice:
    """An invoice as billing has it."""

    invoice_id: str
    invoice_number: str
    total: Money
    state: str
    """issued, paid or void."""


class Billing(Protocol):
    async def invoices(self, tenant_id: str, period: Period | None) -> list[BilledInvoice]:
        """All invoices but drafts, of billing periods that start in the period.

        :raises Unavailable: if billing does not answer
        """


class TenantTimes(Protocol):
    """What time it is for a tenant."""

    def now(self, tenant_id: str) -> datetime: ...

    def test_times(self) -> dict[str, datetime]:
        """The tenants on test clocks."""
