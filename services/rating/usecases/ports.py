"""What the use cases need of the outside: stores that share one transaction, and ingest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.comparison import Comparison
from services.rating.domain.exact_usage import ExactUsage, QuantityScope, Questions
from services.rating.domain.period_charge import ChangedCharge, PeriodCharge
from services.rating.domain.queue import Mark, RatingProblem, SetAside
from services.rating.domain.rate_card import RateCard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.domain.usage import (
    ExplainedUsage,
    MeterUsage,
    ReceivedWatermark,
    UsageDigest,
    UsageScope,
    Watermark,
    WindowBatch,
)


class UsageStore(Protocol):
    """Usage windows and their roll-ups; the usage lock of a tenant is taken before anything else is read."""

    async def lock(self, tenants: Sequence[str], *, exclusive: bool) -> None: ...
    async def apply(self, batch: WindowBatch, now: datetime) -> int: ...
    async def rebuild(self, keys: Sequence[PeriodKey]) -> None: ...
    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, MeterUsage]]: ...
    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[dict[str, UsageDigest]]: ...
    async def explain(self, period: BillingPeriod, meter_id: str) -> list[ExplainedUsage]: ...


class ExactUsageStore(Protocol):
    """Exact quantities of billing periods, of meters whose windows do not add up, and which prices need them."""

    async def add_prices(self, tenant_id: str, card: RateCard) -> None: ...
    async def wanted(self, keys: Sequence[PeriodKey]) -> Questions: ...
    async def save(self, found: Mapping[tuple[PeriodKey, str], ExactUsage], question: int) -> None: ...
    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, ExactUsage]]: ...


class BillingPeriodStore(Protocol):
    """Billing's periods; the lock of a period's row is what one rater at a time holds."""

    async def save(self, periods: Sequence[BillingPeriod]) -> list[PeriodKey]: ...
    async def lock(self, keys: Sequence[PeriodKey]) -> list[BillingPeriod]: ...
    async def unfetched(self, keys: Sequence[PeriodKey]) -> list[BillingPeriod]: ...
    async def set_fetched(self, periods: Sequence[BillingPeriod]) -> None: ...
    async def containing(
        self, tenant_id: str, instants: Sequence[tuple[str, datetime]]
    ) -> list[BillingPeriod | None]: ...
    async def starting_in(
        self, tenant_id: str, within: Period | None, after: PeriodKey | None, limit: int
    ) -> list[BillingPeriod]: ...


class RateCardStore(Protocol):
    """Versions of rate cards, added and never changed."""

    async def lock(self, tenant_id: str, rate_card_id: str) -> None: ...
    async def add(self, tenant_id: str, card: RateCard, created_at: datetime) -> None: ...
    async def find(self, tenant_id: str, rate_card_id: str, version: int = 0) -> StoredRateCard | None: ...
    async def list_newest(self, tenant_id: str, after: str, limit: int) -> list[StoredRateCard]: ...
    async def versions(self, cards: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[RateCard]]: ...


class ChargeStore(Protocol):
    """Current charges, and why a period has none."""

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[PeriodCharge]]: ...
    async def changed(
        self, fresh: Mapping[PeriodKey, Sequence[PeriodCharge]], withdraw: Callable[[PeriodCharge], PeriodCharge]
    ) -> list[ChangedCharge]: ...
    async def save(self, changed: Sequence[ChangedCharge], now: datetime) -> None: ...
    async def save_problems(
        self, keys: Sequence[PeriodKey], problems: Mapping[PeriodKey, RatingProblem], failed_at: datetime
    ) -> None: ...
    async def problems(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, RatingProblem]: ...


class RatingQueue(Protocol):
    """Billing periods that have to be rated."""

    async def mark(self, keys: Collection[PeriodKey], now: datetime, *, urgent: bool = False) -> None: ...
    async def mark_priced_by(
        self, tenant_id: str, rate_card_id: str, since: datetime | None, now: datetime
    ) -> None: ...
    async def waiting(self, limit: int, after: int = 0) -> list[Mark]: ...
    async def retries(self, now: datetime, limit: int) -> list[tuple[PeriodKey, datetime]]: ...
    async def take(self, marks: Sequence[int]) -> set[int]: ...
    async def set_aside(self, keys: Collection[PeriodKey]) -> dict[PeriodKey, SetAside]: ...
    async def retry_later(self, failed: Mapping[PeriodKey, SetAside]) -> None: ...
    async def forget(self, rated: Collection[PeriodKey]) -> None: ...
    async def oldest_mark(self) -> int | None: ...


class WatermarkStore(Protocol):
    """Watermarks between ingest and billing."""

    async def add(self, watermarks: Sequence[ReceivedWatermark]) -> None: ...
    async def counted(self, stream_epoch: datetime, floor: int) -> tuple[Watermark, int] | None: ...
    async def pass_on(self, watermark: Watermark) -> None: ...


class Reconciliation(Protocol):
    """The equations inside rating."""

    async def compare(self, tenant_id: str, within: Period | None) -> list[Comparison]: ...


class Requests(Protocol):
    """Mutations carried out, by request id."""

    async def claim(
        self, tenant_id: str, method: str, request_id: str, fingerprint: bytes, result_id: str, now: datetime
    ) -> str | None: ...


class Work(Protocol):
    """The stores of one transaction."""

    @property
    def usage(self) -> UsageStore: ...
    @property
    def exact_usage(self) -> ExactUsageStore: ...
    @property
    def periods(self) -> BillingPeriodStore: ...
    @property
    def cards(self) -> RateCardStore: ...
    @property
    def charges(self) -> ChargeStore: ...
    @property
    def queue(self) -> RatingQueue: ...
    @property
    def watermarks(self) -> WatermarkStore: ...
    @property
    def reconciliation(self) -> Reconciliation: ...
    @property
    def requests(self) -> Requests: ...


OpenWork = Callable[..., AbstractAsyncContextManager[Work]]
"""Opens a transaction for the named tenants; commits at exit. A worker may name none, and then sees queues only."""


class IngestWindows(Protocol):
    """Ingest's usage windows. Nothing calls it inside a transaction.

    All methods raise Unavailable (or another ServiceError) if ingest does not answer.
    """

    def windows(self, tenant_id: str, scopes: Sequence[UsageScope]) -> AsyncIterator[WindowBatch]: ...
    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[dict[str, UsageDigest]]: ...
    async def quantities(self, tenant_id: str, scopes: Sequence[QuantityScope]) -> list[ExactUsage]: ...


class BillingPeriods(Protocol):
    """Billing's periods. Nothing calls it inside a transaction."""

    async def ending_after(self, tenant_id: str, subscription_id: str, at: datetime) -> list[BillingPeriod]:
        """Return the periods of a subscription that end after an instant; raises ServiceError without an answer."""


class IngestMeters(Protocol):
    """Ingest's meters."""

    async def additive(self, tenant_id: str, meter_ids: Collection[str]) -> dict[str, bool]:
        """Return, of those that exist, whether their windows add up to the quantity of a billing period."""
