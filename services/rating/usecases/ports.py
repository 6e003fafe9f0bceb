"""What the use cases need of the outside: stores that share one transaction, and ingest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.comparison import Comparison
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import DuePeriod, RatingProblem
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
    async def apply(self, batch: WindowBatch) -> list[PeriodKey]: ...
    async def rebuild(self, keys: Sequence[PeriodKey]) -> None: ...
    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, MeterUsage]]: ...
    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[dict[str, UsageDigest]]: ...
    async def explain(self, period: BillingPeriod, meter_id: str) -> list[ExplainedUsage]: ...


class BillingPeriodStore(Protocol):
    """Billing's periods; the lock of a period's row is what one rater at a time holds."""

    async def save(self, periods: Sequence[BillingPeriod]) -> list[PeriodKey]: ...
    async def lock(self, keys: Sequence[PeriodKey]) -> list[BillingPeriod]: ...
    async def unfetched(self, keys: Sequence[PeriodKey]) -> list[BillingPeriod]: ...
    async def set_fetched(self, periods: Sequence[BillingPeriod]) -> None: ...
    async def containing(
        self, tenant_id: str, instants: Sequence[tuple[str, datetime]]
    ) -> list[BillingPeriod | None]: ...
    async def of_rate_card(self, tenant_id: str, rate_card_id: str, since: datetime | None) -> list[PeriodKey]: ...
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

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, PeriodCharge]]: ...
    async def save(self, charges: Sequence[PeriodCharge], now: datetime) -> dict[tuple[PeriodKey, str], int]: ...
    async def save_problems(
        self, keys: Sequence[PeriodKey], problems: Mapping[PeriodKey, RatingProblem], failed_at: datetime
    ) -> None: ...
    async def problems(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, RatingProblem]: ...


class RatingQueue(Protocol):
    """Billing periods that have to be rated."""

    async def mark(self, keys: Sequence[PeriodKey], due_at: datetime, *, retry_failed: bool = False) -> None: ...
    async def claim(self, now: datetime, until: datetime, limit: int) -> list[DuePeriod]: ...
    async def finish(self, rated: Sequence[DuePeriod], now: datetime) -> None: ...
    async def set_aside(self, failed: Mapping[PeriodKey, datetime]) -> None: ...
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


class IngestMeters(Protocol):
    """Ingest's meters."""

    async def unknown(self, tenant_id: str, meter_ids: Collection[str]) -> set[str]:
        """Return those that do not exist."""
