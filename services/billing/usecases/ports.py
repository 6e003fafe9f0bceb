"""What the use cases need from the outside: one tenant's transaction, the queues across tenants, and the peers.

Methods that a store refuses raise the domain's errors; a store never decides a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from libs.clock import TenantClock
from libs.periods import Period
from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.customer import Customer
from services.billing.domain.events import InvoiceFact
from services.billing.domain.invoice import Invoice, InvoiceState
from services.billing.domain.subscription import Subscription
from services.billing.domain.tenant import ApiKey, Tenant
from services.billing.domain.watermark import ReceivedWatermark, Watermark


class RowsRefused(Exception):
    """The database refused rows for what is in them (not for the state it is in): some item of a chunk is bad."""


class EntryKind(StrEnum):
    """The kinds of directory entries that billing owns, as they stand in the subjects."""

    TENANT = "tenant"
    KEY = "key"
    CLOCK = "clock"
    CUSTOMER = "customer"


@dataclass(frozen=True, slots=True)
class ClosingPeriod:
    """A due billing period, locked by the transaction, with its draft."""

    key: PeriodKey
    draft: Invoice


@dataclass(frozen=True, slots=True)
class Progress:
    """What is left to be invoiced; `problems` are the reasons why single periods cannot be."""

    due_periods: int
    unpaid_invoices: int
    problems: tuple[str, ...]


class Requests(Protocol):
    async def claim(
        self, method: str, request_id: str, fingerprint: bytes, result_id: str, now: datetime
    ) -> str | None:
        """See libs.database.RequestLog.claim."""


class Tenants(Protocol):
    async def add(self, tenant: Tenant, test_time: datetime | None) -> None:
        """:raises TenantExists: if the id is taken"""

    async def get(self) -> Tenant:
        """:raises TenantNotFound: if there is none"""

    async def clock(self) -> TenantClock:
        """:raises TenantNotFound: if there is no tenant"""

    async def lock_clock(self) -> TenantClock:
        """The clock, locked until the transaction ends.

        :raises TenantNotFound: if there is no tenant
        """

    async def set_clock(self, test_time: datetime) -> None:
        """Move the test clock and give it a new version."""


class ApiKeys(Protocol):
    async def add(self, key: ApiKey) -> bool:
        """Return False if the key's id is taken, by whichever tenant: then another key has to be made."""

    async def get(self, key_id: str) -> ApiKey:
        """:raises ApiKeyNotFound: if the tenant has no such key"""

    async def list_newest_first(self) -> list[ApiKey]: ...

    async def revoke(self, key_id: str, revoked_at: datetime) -> None:
        """Revoke a key once; a key that is revoked keeps its time.

        :raises ApiKeyNotFound: if the tenant has no such key
        """


class Customers(Protocol):
    async def add(self, customer: Customer) -> None:
        """:raises CustomerExists: if the id is taken"""

    async def get(self, customer_id: str) -> Customer:
        """:raises CustomerNotFound: if there is none"""

    async def page(self, after: str, limit: int) -> list[Customer]: ...


class Subscriptions(Protocol):
    async def add(self, subscription: Subscription) -> None:
        """:raises SubscriptionExists: if the id is taken"""

    async def get(self, subscription_id: str) -> Subscription:
        """:raises SubscriptionNotFound: if there is none"""

    async def lock(self, subscription_ids: Sequence[str]) -> dict[Subscription, int]:
        """The subscriptions that exist, locked, with the index of the next period to be made."""

    async def page(self, customer_id: str, after: str, limit: int) -> list[Subscription]: ...

    async def extended(self, next_indices: Mapping[str, int], due_at: Mapping[str, datetime]) -> None:
        """Store the next index per subscription, and when (tenant's clock) it is needed; without a time: never."""

    async def end(self, subscription_id: str, ended_at: datetime) -> None:
        """Store the end; periods that start at or after it are never due, and no further ones are made."""


class BillingPeriods(Protocol):
    async def add(self, subscription: Subscription, periods: Sequence[tuple[int, Period]], grace: timedelta) -> None:
        """Store periods of a subscription with their index, due `grace` after their end, and publish their state."""

    async def start_closing(self, keys: Sequence[PeriodKey], closing_at: datetime) -> int:
        """Put drafts on the periods that are seen due for the first time; returns how many there were."""

    async def lock_closing(self, keys: Sequence[PeriodKey], claimed_until: datetime) -> list[ClosingPeriod]:
        """Those of the periods that are still to be invoiced under this claim, locked, by start and subscription."""

    async def invoiced(self, keys: Sequence[PeriodKey]) -> None:
        """The periods have their invoice and are not due any more."""

    async def lock(self, key: PeriodKey) -> None:
        """Take the lock under which invoices of the period change."""

    async def reopen(self, key: PeriodKey, try_at: datetime) -> None:
        """The period is due again, for an invoice with the next ordinal."""

    async def set_aside(self, reasons: Mapping[PeriodKey, str], try_at: datetime) -> None:
        """Keep why periods cannot be invoiced, and try them again at a (real) time."""

    async def ordinal(self, key: PeriodKey) -> int:
        """The ordinal of the period's next or last invoice; 1 if the period is not stored."""

    async def page(
        self, subscription_id: str, ending_after: datetime | None, after: PeriodKey | None, limit: int
    ) -> list[BillingPeriod]: ...


class Charges(Protocol):
    async def apply(self, charges: Sequence[Charge]) -> int:
        """Keep the highest version of each under the locks of their periods; returns how many were news."""

    async def of(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        """The current charges of each period, in the order of the card."""


class Invoices(Protocol):
    async def get(self, invoice: str) -> Invoice:
        """By id or number. :raises InvoiceNotFound: if there is none"""

    async def lock(self, invoice_id: str) -> Invoice:
        """:raises InvoiceNotFound: if there is none"""

    async def page(self, customer_id: str, state: InvoiceState | None, before: str, limit: int) -> list[Invoice]: ...

    async def freeze(self, invoices: Sequence[Invoice]) -> None:
        """Store the lines of drafts and the charges behind them, for good."""

    async def take_numbers(self, count: int) -> int:
        """Take a block of numbers and return its first; holds the counter's lock, so it comes last."""

    async def issue(self, invoices: Mapping[int, Invoice]) -> None:
        """Store issued invoices by the value of their number."""

    async def save_state(self, invoice: Invoice) -> None:
        """Store state, instants and reason of an invoice that is locked."""


class Work(Protocol):
    """One transaction of one tenant."""

    @property
    def tenant_id(self) -> str: ...
    @property
    def requests(self) -> Requests: ...
    @property
    def tenants(self) -> Tenants: ...
    @property
    def api_keys(self) -> ApiKeys: ...
    @property
    def customers(self) -> Customers: ...
    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def periods(self) -> BillingPeriods: ...
    @property
    def charges(self) -> Charges: ...
    @property
    def invoices(self) -> Invoices: ...

    @property
    def reconciliation(self) -> Reconciliation: ...

    async def first_delivery(self, consumer: str, event_id: str, body: bytes) -> bool:
        """Whether a fact has not been handled by this consumer before; see libs.messaging.inbox.

        :raises InboxConflict: if it came with another body before
        """

    async def announce(self, facts: Sequence[InvoiceFact]) -> None:
        """Publish facts after the commit."""

    async def publish_entry(self, kind: EntryKind, entry_id: str) -> None:
        """Publish the current value of a directory entry after the commit."""

    async def watermark(self) -> Watermark:
        """How far rating has come for this tenant."""

    async def progress(self, now: datetime) -> Progress:
        """What is left to be invoiced at the tenant's `now`."""


class UnitOfWork(Protocol):
    """Opens a transaction that commits at its end; RowsRefused if the database refuses what is in rows."""

    def __call__(self, tenant_id: str) -> AbstractAsyncContextManager[Work]: ...

    def several(self, tenant_ids: Sequence[str]) -> AbstractAsyncContextManager[dict[str, Work]]:
        """One transaction of several tenants, for workers."""


class Watermarks(Protocol):
    async def receive(self, watermarks: Sequence[ReceivedWatermark]) -> None:
        """Keep watermarks until the consumer has passed them; one that is known changes nothing."""

    async def count_through(self, stream_epoch: datetime, stream_seq: int) -> datetime | None:
        """Let the newest watermark up to a sequence count, with its holds; return it if it moved."""


class Queues(Protocol):
    """What workers see across tenants: ids and due times only."""

    async def tenant_ids(self, after: str, limit: int) -> list[str]: ...

    async def due_extensions(self, now: datetime, limit: int) -> dict[str, list[str]]:
        """Subscriptions by tenant that need further billing periods."""

    async def newly_due(self, now: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        """Periods by tenant that are over, grace included, and not yet closing."""

    async def claim_closing(self, now: datetime, until: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        """Closing periods by tenant that the watermark has passed and nothing holds; nobody else gets them `until`."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Rating's answer for one period: its charges, or why it cannot confirm them."""

    key: PeriodKey
    charges: tuple[Charge, ...]
    refusal: str = ""


class Rating(Protocol):
    async def rate_card_currency(self, tenant_id: str, rate_card_id: str) -> str:
        """:raises RateCardNotFound, Unavailable: if there is no such card, or rating does not answer"""

    async def confirm_charges(self, tenant_id: str, keys: Sequence[PeriodKey]) -> list[Confirmed]:
        """:raises Unavailable: if rating does not answer"""

    async def charges(self, tenant_id: str, key: PeriodKey) -> list[Charge] | None:
        """The current charges as rating has them; None if it does not know the period.

        :raises Unavailable: if rating does not answer
        """


class Payments(Protocol):
    async def cancel_payment(self, tenant_id: str, request_id: str, invoice_id: str) -> None:
        """:raises PaymentNotCancelable, Unavailable: if money moved or may have, or payments does not answer"""


class Directory(Protocol):
    """The last values that every process knows: tenants, keys, clocks, customers."""

    async def publish(self, tenant_id: str) -> None:
        """Return when all marked entries of the tenant are stored in the stream."""

    async def unconfirmed(self) -> list[str]:
        """Wait a while until every service has applied what was published; return those that have not said so."""


@dataclass(frozen=True, slots=True)
class FrozenLine:
    """A line of an issued invoice beside the charge that the database froze for it; a side that is missing is None."""

    subject: str
    currency: str
    quantity: Decimal | None
    exact_amount: Decimal | None
    amount_minor: int | None
    version: int | None
    frozen_quantity: Decimal | None
    frozen_amount: Decimal | None
    frozen_version: int | None
    rounding_mode: str | None


@dataclass(frozen=True, slots=True)
class InvoiceSum:
    """The stored total of an issued invoice, and the sum of its lines."""

    invoice_number: str
    total_minor: int
    lines_minor: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """The counter of a tenant's invoice numbers, how many invoices carry one, and those that none carries."""

    last_value: int
    count: int
    missing: tuple[int, ...]


class Reconciliation(Protocol):
    """What one tenant's rows say; `within` selects billing periods that start in it, None all."""

    async def frozen_lines(self, within: Period | None) -> list[FrozenLine]: ...

    async def invoice_sums(self, within: Period | None) -> list[InvoiceSum]: ...

    async def numbers(self) -> Numbers: ...

    async def charges(self, within: Period | None) -> dict[PeriodKey, list[Charge]]:
        """The charges of every billing period, also of those that have none."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """The current value of an entry by the field names of its message, `version` among them."""

    kind: EntryKind
    tenant_id: str
    entry_id: str
    values: Mapping[str, Any]


class DirectoryEntries(Protocol):
    def locked(self, tenant_id: str) -> AbstractAsyncContextManager[list[DirectoryEntry]]:
        """Some of a tenant's marked entries, locked until they are published: leaving the context clears the marks."""

    async def left_behind(self, before: datetime, limit: int) -> list[str]:
        """Tenants with marks older than an instant."""

    async def mark_all(self, due_at: datetime) -> int:
        """Mark every entry of every tenant; returns how many tenants there are."""
