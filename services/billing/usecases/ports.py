"""What the use cases need from the outside: one tenant's transaction, the queues across tenants, and the peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.events import InvoiceFact
from services.billing.domain.rate_card_facts import RateCardFacts
from services.billing.domain.tenant import Tenant
from services.billing.domain.watermark import ReceivedWatermark, Watermark
from services.billing.usecases.reconciliation_ports import Reconciliation
from services.billing.usecases.store_ports import (
    ApiKeys,
    BillingPeriods,
    Charges,
    Customers,
    Invoices,
    Requests,
    Subscriptions,
    Tenants,
)


class RowsRefused(Exception):
    """The database refused rows for what is in them (not for the state it is in): some item of a chunk is bad."""


class EntryKind(StrEnum):
    """The kinds of directory entries that billing owns, as they stand in the subjects."""

    TENANT = "tenant"
    KEY = "key"
    CLOCK = "clock"
    CUSTOMER = "customer"


@dataclass(frozen=True, slots=True)
class Progress:
    """What is left to be invoiced; `problems` are the reasons why single periods cannot be."""

    due_periods: int
    unpaid_invoices: int
    problems: tuple[str, ...]


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

    async def first_deliveries(self, consumer: str, facts: Sequence[tuple[str, bytes]]) -> set[str]:
        """Which facts (id and body) have not been handled by this consumer before; see libs.messaging.inbox.

        :raises InboxConflict: if one came with another body before
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


class ReceivedCharges(Protocol):
    async def keep(self, charges: Mapping[str, Sequence[Charge]]) -> None:
        """Keep the highest version of each charge, by tenant, in one transaction."""


class Watermarks(Protocol):
    async def receive(self, watermarks: Sequence[ReceivedWatermark]) -> None:
        """Keep watermarks until the consumer has passed them; one that is known changes nothing."""

    async def count_through(self, stream_epoch: datetime, stream_seq: int) -> datetime | None:
        """Let the newest watermark up to a sequence count, with its holds; return it if it moved."""


class Queues(Protocol):
    """What workers see across tenants: ids and due times only."""

    async def tenant_ids(self, after: str, limit: int) -> list[str]: ...

    async def tenants(self, tenant_ids: Sequence[str]) -> list[tuple[Tenant, datetime | None]]:
        """The tenants of these ids by id, in a transaction that sees them, with the time on their test clocks."""

    async def due_extensions(self, now: datetime, limit: int) -> dict[str, list[str]]:
        """Subscriptions by tenant that need further billing periods."""

    async def newly_due(self, now: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        """Periods by tenant that are over, grace included, and not yet closing."""

    async def claim_closing(self, now: datetime, until: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        """Closing periods by tenant that the watermark has passed and nothing holds; nobody else gets them `until`."""

    async def backlog(self, now: datetime) -> tuple[int, datetime | None]:
        """How many periods of all tenants are due, and rating's watermark."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Rating's answer for one period: its charges, or why it cannot confirm them.

    `period` is what the charges are for; None if rating does not say (older versions do not). `whole` is what that is a
    part of, as rating knows it; None if it is not shortened.
    """

    key: PeriodKey
    charges: tuple[Charge, ...]
    refusal: str = ""
    period: Period | None = None
    whole: Period | None = None


@dataclass(frozen=True, slots=True)
class LiveCharges:
    """What a billing period costs now: charges without versions, none of which is stored."""

    key: PeriodKey
    period: Period
    charges: Sequence[Charge]


class Rating(Protocol):
    async def rate_card(self, tenant_id: str, rate_card_id: str) -> RateCardFacts:
        """:raises RateCardNotFound, Unavailable: if there is no such card, or rating does not answer"""

    async def confirm_charges(self, tenant_id: str, keys: Sequence[PeriodKey]) -> list[Confirmed]:
        """:raises Unavailable: if rating does not answer"""

    async def charges(self, tenant_id: str, key: PeriodKey) -> list[Charge] | None:
        """The current charges as rating has them; None if it does not know the period.

        :raises Unavailable: if rating does not answer
        """

    async def live_charges(self, tenant_id: str, customer_id: str, at: datetime) -> list[LiveCharges]:
        """What has been recorded until now costs in the customer's billing periods that contain `at`, as far as rating
        can tell.

        :raises Unavailable: if rating, or ingest, does not answer at once
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

    async def mark_all(self, marked_at: datetime) -> int:
        """Mark every entry of every tenant; returns how many tenants there are."""
