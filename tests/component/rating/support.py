"""Rating over a real database, with ingest played by plain Python."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from libs.database import Database
from libs.errors import NotFound, Unavailable
from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.exact_usage import ExactUsage, QuantityScope
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.prices import Flat, Graduated, PerUnit, Tier
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.domain.usage import MeterFacts, UsageDigest, UsageScope, WindowBatch, WindowRow
from services.rating.store.unit_of_work import PostgresUnitOfWork
from services.rating.usecases.accept_billing_periods import AcceptBillingPeriods
from services.rating.usecases.apply_usage import ApplyUsage
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.check_rate_card import CheckRateCard
from services.rating.usecases.confirm_charges import ConfirmCharges
from services.rating.usecases.create_rate_card import CreateRateCard, GetRateCards, Request
from services.rating.usecases.fetch_billing_periods import FetchBillingPeriods
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.forecast_charges import ForecastCharges
from services.rating.usecases.forward_watermark import ForwardWatermark
from services.rating.usecases.get_charges import GetCharges
from services.rating.usecases.guard_rollout import GuardRollout
from services.rating.usecases.price_overrides import PriceOverrides
from services.rating.usecases.rate_asked_periods import RateAskedPeriods
from services.rating.usecases.rate_chunk import RateChunk
from services.rating.usecases.rate_due_periods import RateDuePeriods
from services.rating.usecases.rate_periods import RatedPeriods
from services.rating.usecases.reconcile import Reconcile
from services.rating.usecases.repair_usage import RepairUsage
from services.rating.usecases.rerate import Rerate
from services.rating.usecases.simulate import Simulate
from services.rating.wire.usage import watermark_to_bytes

TENANT = "acme"
MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
APRIL = Period(MARCH.end, datetime(2026, 5, 1, tzinfo=UTC))
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
TOKENS, REQUESTS = "tokens", "requests"

_versions = itertools.count(1 << 40)


def window(
    value: str | int = 1,
    *,
    at: datetime = MARCH.start,
    version: int | None = None,
    customer: str = "cust-1",
    meter: str = TOKENS,
    tenant: str = TENANT,
    dimensions: str = "{}",
    events: int = 1,
    trace_parent: str = "",
) -> WindowRow:
    """A window, with a version above all made before unless told otherwise."""
    start_s = int(at.timestamp())
    chosen = next(_versions) if version is None else version
    return WindowRow(tenant, customer, start_s, meter, dimensions, str(value), events, chosen, trace_parent)


def billing_period(
    subscription: str = "sub-1",
    *,
    period: Period = MARCH,
    customer: str = "cust-1",
    card: str = "standard",
    tenant: str = TENANT,
    version: int = 1,
    time_zone: str = "UTC",
    whole: Period | None = None,
    currency: str = "",
) -> BillingPeriod:
    key = PeriodKey(tenant, subscription, period.start)
    return BillingPeriod(key, period.end, customer, card, version, time_zone, whole, currency)


def rate_card(
    *prices: Price, card_id: str = "standard", currency: str = "USD", effective_at: datetime | None = None
) -> RateCard:
    """A card; by default a flat fee, tiers on tokens and a price per request."""
    return RateCard(card_id, 0, currency, effective_at, prices or STANDARD)


STANDARD = (
    Price("fee", Flat(Decimal("20.00"))),
    Price(
        "tokens",
        Graduated((Tier(Decimal(1000), Decimal("0.01")), Tier(None, Decimal("0.0025"), Decimal(1)))),
        meter_id=TOKENS,
        included_quantity=Decimal(100),
    ),
    Price("requests", PerUnit(Decimal("0.000125")), meter_id=REQUESTS),
)


async def _nothing() -> None:
    """What happens beside ingest's answers unless a test says otherwise."""


@dataclass
class FakeIngest:
    """What ingest would answer: windows by key, and meters. `down` makes every call fail."""

    known: dict[tuple[str, str, int, str, str], WindowRow] = field(default_factory=dict)
    meters: set[str] = field(default_factory=lambda: {TOKENS, REQUESTS})
    down: bool = False
    calls: list[str] = field(default_factory=list)
    before_windows: Callable[[], None] = lambda: None
    not_additive: set[str] = field(default_factory=set)
    archived: set[str] = field(default_factory=set)
    dimensions: frozenset[str] = frozenset({"region", "size"})
    """Of every meter."""
    exact: dict[tuple[str, str, str, datetime], ExactUsage] = field(default_factory=dict)
    """Quantities by tenant, customer, meter and start of the period; what is not there was not used."""
    zones: set[str] = field(default_factory=set)
    """Those that quantities were asked for in."""
    before_quantities: Callable[[], Awaitable[None]] = _nothing
    after_quantities: Callable[[], Awaitable[None]] = _nothing
    """Run before and after what is known is read for an answer."""
    known_then: dict[datetime, dict[str, ExactUsage]] = field(default_factory=dict)
    """Quantities by meter, as they were known at an instant."""
    mute: bool = False
    """No quantity is told."""
    gone: set[str] = field(default_factory=set)
    """Meters that are not known any more."""

    def put(self, *rows: WindowRow) -> None:
        for row in rows:
            known = self.known.get(row[:5])
            if known is None or known.version < row.version:
                self.known[row[:5]] = row

    async def windows(self, tenant_id: str, scopes: Sequence[UsageScope]) -> AsyncIterator[WindowBatch]:
        self._call("windows")
        self.before_windows()
        for scope in scopes:
            yield WindowBatch(self.rows_in(tenant_id, scope))

    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[dict[str, UsageDigest]]:
        self._call("digests")
        return [digests_of(self.rows_in(tenant_id, scope)) for scope in scopes]

    async def quantities(
        self, tenant_id: str, scopes: Sequence[QuantityScope], known_at: datetime | None = None
    ) -> list[ExactUsage]:
        self._call("quantities")
        if known_at is not None:
            then = self.known_then.get(known_at, {})
            return [then.get(scope.meter_id, ExactUsage(Decimal(0), 0, 0)) for scope in scopes]
        self.zones |= {scope.time_zone for scope in scopes}
        await self.before_quantities()
        if self.mute:
            raise Unavailable("ingest does not tell quantities")
        if gone := self.gone & {scope.meter_id for scope in scopes}:
            raise NotFound(f"there is no meter {min(gone)}")
        told = [
            self.exact.get(
                (tenant_id, scope.customer_id, scope.meter_id, scope.period.start), ExactUsage(Decimal(0), 0, 0)
            )
            for scope in scopes
        ]
        await self.after_quantities()
        return told

    async def facts(self, tenant_id: str, meter_ids: Collection[str]) -> dict[str, MeterFacts]:
        self._call("meters")
        return {
            meter_id: MeterFacts(meter_id not in self.not_additive, self.dimensions, meter_id in self.archived)
            for meter_id in self.meters & set(meter_ids)
        }

    def rows_in(self, tenant_id: str, scope: UsageScope) -> list[WindowRow]:
        first_s, end_s = int(scope.period.start.timestamp()), int(scope.period.end.timestamp())
        return [
            row
            for row in self.known.values()
            if row.tenant_id == tenant_id and row.customer_id == scope.customer_id and first_s <= row.start_s < end_s
        ]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise Unavailable("ingest is down")


@dataclass
class FakeBilling:
    """What billing would answer: its periods. `down` makes every call fail."""

    known: list[BillingPeriod] = field(default_factory=list)
    down: bool = False
    calls: list[str] = field(default_factory=list)

    async def ending_after(self, tenant_id: str, subscription_id: str, at: datetime) -> list[BillingPeriod]:
        self.calls.append(subscription_id)
        if self.down:
            raise Unavailable("billing is down")
        return self.known_after(tenant_id, subscription_id, at)

    def known_after(self, tenant_id: str, subscription_id: str, at: datetime) -> list[BillingPeriod]:
        of_subscription = [period for period in self.known if period.key[:2] == (tenant_id, subscription_id)]
        return [period for period in of_subscription if period.period_end > at]


def digests_of(rows: Sequence[WindowRow]) -> dict[str, UsageDigest]:
    """Digests by meter, added up in plain Python."""
    return {
        meter_id: UsageDigest(
            len(own := [row for row in rows if row.meter_id == meter_id]),
            sum((Decimal(row.value) for row in own), Decimal(0)),
            sum(row.event_count for row in own),
            max(row.version for row in own),
        )
        for meter_id in {row.meter_id for row in rows}
    }


class Rating:
    """The use cases over one database; the api role where RPCs call them, the worker role elsewhere."""

    def __init__(self, api: Database, worker: Database) -> None:
        self.now = NOW
        self.test_clocks: dict[str, datetime] = {}
        self.ingest = FakeIngest()
        self.billing = FakeBilling()
        self.rated: list[RatedPeriods] = []
        self.api, self.worker = api, worker
        self.open_api = PostgresUnitOfWork(api, watermark_to_bytes)
        self.open_work = PostgresUnitOfWork(worker, watermark_to_bytes)
        self.marked = 0
        self.apply_usage = ApplyUsage(self.open_work, self.clock, self._on_marked)
        self.accept = AcceptBillingPeriods(
            self.open_work, FetchUsage(self.ingest, self.apply_usage), self.clock, self._on_marked
        )
        self.rate_due = self.another_rater()
        self.forward_watermark = ForwardWatermark(self.open_work)
        self.simulate = Simulate(self.open_api, AskQuantities(self.open_api, self.ingest))
        self.create_rate_card = CreateRateCard(
            self.open_api,
            CheckRateCard(self.ingest),
            GuardRollout(self.simulate),
            self.clock,
            lambda tenant_id: self.test_clocks.get(tenant_id, self.now),
            self._on_marked,
        )
        self.get_rate_cards = GetRateCards(self.open_api)
        self.price_overrides = PriceOverrides(
            self.open_api, CheckRateCard(self.ingest), self.get_rate_cards, self.clock, self._on_marked
        )
        self.get_charges = GetCharges(self.open_api)
        fetch_as_api = FetchUsage(self.ingest, ApplyUsage(self.open_api, self.clock, self._on_marked))
        accept_as_api = AcceptBillingPeriods(self.open_api, fetch_as_api, self.clock, self._on_marked)
        fetch_periods = FetchBillingPeriods(self.billing, accept_as_api)
        repair_usage = RepairUsage(self.open_api, self.ingest, fetch_as_api)
        self.rerate = Rerate(
            self.open_api, repair_usage, AskQuantities(self.open_api, self.ingest), self.clock, self.rated.append
        )
        self.confirm_charges = ConfirmCharges(
            self.open_api,
            repair_usage,
            AskQuantities(self.open_api, self.ingest),
            fetch_periods,
            self.clock,
            self.rated.append,
        )
        self.forecast_charges = ForecastCharges(self.open_api, AskQuantities(self.open_api, self.ingest))
        self.reconcile = Reconcile(self.open_api, self.ingest)

    def another_rater(self) -> Callable[[], Awaitable[bool]]:
        """A rater of a process of its own: a pass over the queue, then what it has left to be asked."""
        rate_chunk = RateChunk(self.open_work, self.clock, lambda rated, _waited: self.rated.append(rated))
        ask = AskQuantities(self.open_work, self.ingest)
        rate_asked = RateAskedPeriods(ask, rate_chunk)
        rate_due = RateDuePeriods(self.open_work, rate_chunk, ask, rate_asked, self.clock)

        async def rate() -> bool:
            worked = await rate_due()
            return await rate_asked() or worked

        return rate

    def clock(self) -> datetime:
        return self.now

    async def receive(self, *rows: WindowRow) -> int:
        """Windows that ingest has and that arrive here by its stream."""
        self.ingest.put(*rows)
        return await self.apply_usage(WindowBatch(rows))

    async def add_card(
        self,
        card: RateCard,
        guard: RolloutGuard | None = None,
        *,
        tenant: str = TENANT,
        request_id: str = "",
        allow_past: bool = True,
    ) -> StoredRateCard:
        request_id = request_id or f"00000000-0000-0000-0000-{next(_versions):012d}"
        request = Request(tenant, request_id, repr(card).encode())
        return await self.create_rate_card(request, card, [], guard, allow_past=allow_past)

    async def start_march(self, *cards: RateCard) -> None:
        """Cards (the standard one if none is given) and the first charges of sub-1 in March."""
        for card in cards or (rate_card(),):
            await self.add_card(card)
        await self.accept([billing_period()])
        await self.rate_all()

    async def rate_all(self) -> None:
        """Rate what is due."""
        await self.rate_due()

    async def charges(
        self, subscription: str = "sub-1", *, at: datetime = MARCH.start, tenant: str = TENANT
    ) -> dict[str, PeriodCharge]:
        found = await self.get_charges.of_period(tenant, subscription, at)
        return {charge.price_id: charge for charge in found}

    async def differences(self, *, tenant: str = TENANT) -> list[str]:
        """Names of the equations that do not hold."""
        return [comparison.name for comparison in await self.reconcile(tenant, None) if not comparison.ok]

    async def usage(self, *keys: PeriodKey) -> dict[PeriodKey, dict[str, UsageDigest]]:
        tenants = {key.tenant_id for key in keys}
        async with self.open_work(*tenants) as work:
            found = await work.usage.of_periods(keys)
        return {key: {meter: usage.digest for meter, usage in meters.items()} for key, meters in found.items()}

    async def sql(self, statement: str, *, tenant: str = TENANT) -> list[tuple[object, ...]]:
        """Run a statement as the worker of one tenant."""
        async with self.worker.transaction(tenant) as connection:
            result = await connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def _on_marked(self) -> None:
        self.marked += 1


HOUR = timedelta(hours=1)
