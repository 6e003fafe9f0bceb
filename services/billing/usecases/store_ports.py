"""What the use cases need to keep, one aggregate each, inside one tenant's transaction.

Methods that a store refuses raise the domain's errors; a store never decides a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from libs.clock import TenantClock
from libs.periods import Period
from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.customer import Customer
from services.billing.domain.invoice import Invoice, InvoiceState
from services.billing.domain.subscription import Subscription
from services.billing.domain.tenant import ApiKey, Tenant


@dataclass(frozen=True, slots=True)
class ClosingPeriod:
    """A due billing period, locked by the transaction, with its draft, and what it is a part of if it is shortened."""

    key: PeriodKey
    draft: Invoice
    rate_card_id: str
    whole: Period | None = None


@dataclass(frozen=True, slots=True)
class NewPeriod:
    """The billing period number `index` (from 0) of a subscription, and what it is a part of if it is shortened."""

    subscription: Subscription
    index: int
    period: Period
    whole: Period | None


@dataclass(frozen=True, slots=True)
class OpenPeriod:
    """A stored billing period, the ordinal of its next or last invoice, and the card that prices it."""

    period: Period
    ordinal: int
    rate_card_id: str


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

    async def open_of(
        self, customer_id: str, now: datetime, limit: int
    ) -> list[tuple[Subscription, OpenPeriod | None]]:
        """A customer's subscriptions that have not ended, each with its stored period that contains `now`."""

    async def extended(self, next_indices: Mapping[str, int], due_at: Mapping[str, datetime]) -> None:
        """Store the next index per subscription, and when (tenant's clock) it is needed; without a time: never."""

    async def change_card(self, subscription_id: str, rate_card_id: str) -> None:
        """Store the card of periods that are made from now on."""

    async def end(self, subscription_id: str, ended_at: datetime) -> None:
        """Store the end; periods that start at or after it are never due, and no further ones are made."""


class BillingPeriods(Protocol):
    async def add(self, periods: Sequence[NewPeriod], grace: timedelta) -> None:
        """Store periods, due `grace` after their end, and publish their state."""

    async def last(self, subscription_ids: Sequence[str]) -> dict[str, Period]:
        """The last stored period by subscription; none where nothing is stored."""

    async def containing(self, subscription_ids: Sequence[str], at: datetime) -> dict[str, OpenPeriod]:
        """The stored periods that contain an instant, by subscription."""

    async def cut(self, key: PeriodKey, ends_at: datetime, grace: timedelta) -> bool:
        """End a period early, due `grace` after that, and publish its state; False if it is being invoiced."""

    async def split(self, key: PeriodKey, rest: Period, grace: timedelta) -> bool:
        """End a period where `rest` begins, which becomes a period of its own; both are parts of what the period was a
        part of. False if it is being invoiced."""

    async def change_card(self, subscription_id: str, since: datetime, rate_card_id: str) -> bool:
        """Price all stored periods that start at or after an instant by another card, and publish their state; False if
        one of them is being invoiced, or was."""

    async def publish(self, keys: Sequence[PeriodKey]) -> None:
        """Publish the state of periods once more, under new versions, so that it counts for all who know another."""

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

    async def set_aside(self, reasons: Mapping[PeriodKey, str], claimed_until: datetime, try_at: datetime) -> None:
        """Keep why periods cannot be invoiced, and try them again at a (real) time; nothing if the claim is lost."""

    async def page(
        self, subscription_id: str, ending_after: datetime | None, after: PeriodKey | None, limit: int
    ) -> list[BillingPeriod]: ...


class Charges(Protocol):
    async def apply(self, charges: Sequence[Charge]) -> None:
        """Keep the highest version of each; none of them changes any more until the transaction ends."""

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

    async def lock_all(self, invoice_ids: Sequence[str]) -> dict[str, Invoice]:
        """Those of the invoices that exist, locked, without their lines."""

    async def save_states(self, invoices: Sequence[Invoice]) -> None:
        """Store states, instants and reasons of invoices that are locked."""
