"""Exact quantities of customers over any time: what a billing period is charged by where windows do not add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

from libs.periods import Period, find_zone, is_window_aligned
from services.ingest.domain.aggregations import NO_EVENTS, AggregationPeriod, EventColumns, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.usecases.usage_parts import Evaluation, UsagePart, bucket_count, evaluation_of, usage_of_parts

MAX_AT_ONCE = 100_000
"""Events or parts of scopes that are read together."""
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class QuantityScope:
    """A customer, a meter and a time; `time_zone` is the customer's, whose days prorated quantities count."""

    customer_id: str
    meter_id: str
    period: Period
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class UsageQuantity:
    """The quantity of a scope; `value` is None if the meter has none of nothing.

    `highest_version` is that of the windows it answers for, those carried over included; 0 of a quantity as it was
    known before. A change after it has a higher one.
    """

    value: Decimal | None
    event_count: int
    highest_version: int


class ScopeWindows(NamedTuple):
    """Of the windows of a scope: the highest version, and how many events are in it and carried over into it."""

    highest_version: int
    event_count: int
    carried_count: int


class QuantityStore(Protocol):
    """Reads of one moment or, in this order, of later ones: no value lacks what its version covers.

    `known_at`: as the log told it at that instant (real time); None: as it is.
    """

    async def meters(self, tenant_id: str, meter_ids: Sequence[str]) -> Mapping[str, Meter]:
        """
        :raises MeterNotFound: if there is no such meter
        """

    async def windows(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], *, carried: bool
    ) -> list[ScopeWindows]:
        """Return what the windows of each scope tell, and with `carried` also those before it."""

    async def parts(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], known_at: datetime | None
    ) -> list[UsagePart]:
        """Return what quantities are put together from, by number of the scope; what is carried over is BEFORE row 0.

        Only of meters that need no events.
        """

    async def levels_and_events(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]
    ) -> tuple[list[Decimal], list[EventColumns]]:
        """Return the sum of all windows before each scope, and what was measured in it, both of one moment: what a
        correction moves from one to the other is never in both."""

    async def events(
        self,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        known_at: datetime | None,
        *,
        carried: bool,
    ) -> list[EventColumns]:
        """Return what was measured in each scope, and with `carried` also all before."""


class GetUsageQuantities:
    """Evaluates meters exactly, from windows where these tell, else from the log."""

    def __init__(self, store: QuantityStore) -> None:
        self._store = store

    async def __call__(
        self, tenant_id: str, scopes: Sequence[QuantityScope], known_at: datetime | None = None
    ) -> list[UsageQuantity]:
        """Return one quantity per scope, as it is or as the log told it at `known_at` (real time).

        :raises MeterNotFound: if there is no such meter
        :raises InvalidInput: if a time zone is unknown
        """
        meters = await self._store.meters(tenant_id, sorted({scope.meter_id for scope in scopes}))
        found: dict[int, UsageQuantity] = {}
        for meter_id, meter in meters.items():
            numbers = [number for number, scope in enumerate(scopes) if scope.meter_id == meter_id]
            quantities = await self._of_meter(tenant_id, meter, [scopes[number] for number in numbers], known_at)
            found |= dict(zip(numbers, quantities, strict=True))
        return [found[number] for number in range(len(scopes))]

    async def _of_meter(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], known_at: datetime | None
    ) -> list[UsageQuantity]:
        windows = await self._store.windows(tenant_id, meter, scopes, carried=meter.carry_over)
        found: list[UsageQuantity] = []
        by_events = evaluation_of(meter) is Evaluation.EVENTS
        # Windows tell what is; of what was then they tell how much there is to read.
        weights = (_weight(meter, *item, as_is=known_at is None) for item in zip(scopes, windows, strict=True))
        for portion in _portions(weights):
            versions = [of_scope.highest_version if known_at is None else 0 for of_scope in windows[portion]]
            evaluate_portion = self._of_events if by_events else self._of_parts
            found += await evaluate_portion(tenant_id, meter, scopes[portion], versions, known_at)
        return found

    async def _of_parts(
        self,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        versions: Sequence[int],
        known_at: datetime | None,
    ) -> list[UsageQuantity]:
        of_scope: defaultdict[int, list[UsagePart]] = defaultdict(list)
        for part in await self._store.parts(tenant_id, meter, scopes, known_at):
            of_scope[part.scope].append(part)
        return [
            _put_together(meter, scope, of_scope[number], version)
            for number, (scope, version) in enumerate(zip(scopes, versions, strict=True))
        ]

    async def _of_events(
        self,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        versions: Sequence[int],
        known_at: datetime | None,
    ) -> list[UsageQuantity]:
        if known_at is None and all(_has_level(meter, scope) for scope in scopes):
            # All that came before is one number, which windows have; a level is kept up for years.
            levels, columns = await self._store.levels_and_events(tenant_id, meter, scopes)
        else:
            levels = [_ZERO] * len(scopes)
            columns = await self._store.events(tenant_id, meter, scopes, known_at, carried=meter.carry_over)
        return [_evaluated(meter, *item) for item in zip(scopes, columns, levels, versions, strict=True)]


def _portions(weights: Iterable[int]) -> Iterator[slice]:
    """Runs of scopes of which so much is read at once that it has room in memory; a large one is by itself."""
    first, total, after = 0, 0, 0
    for number, weight in enumerate(weights):
        if number > first and total + weight > MAX_AT_ONCE:
            yield slice(first, number)
            first, total = number, 0
        total, after = total + weight, number + 1
    yield slice(first, after)


def _weight(meter: Meter, scope: QuantityScope, windows: ScopeWindows, *, as_is: bool) -> int:
    """How many events or parts are read; the database puts all events of a bucket together."""
    if evaluation_of(meter) is not Evaluation.EVENTS:
        return min(windows.event_count, 2 if meter.buckets is None else bucket_count(meter.buckets, scope.period))
    return windows.event_count + (0 if as_is and _has_level(meter, scope) else windows.carried_count)


def _has_level(meter: Meter, scope: QuantityScope) -> bool:
    """Whether windows tell all that is carried over."""
    levels = meter.carry_over and meter.aggregation is Aggregation.WEIGHTED_SUM
    return levels and is_window_aligned(scope.period.start)


def _put_together(meter: Meter, scope: QuantityScope, parts: Sequence[UsagePart], version: int) -> UsageQuantity:
    if not parts:
        return _evaluated(meter, scope, NO_EVENTS, _ZERO, version)
    (row,) = usage_of_parts(meter, parts, [scope.period])
    return UsageQuantity(row.value, row.event_count, version)


def _evaluated(meter: Meter, scope: QuantityScope, events: EventColumns, level: Decimal, version: int) -> UsageQuantity:
    start_ns, end_ns = to_ns(scope.period.start), to_ns(scope.period.end)
    carried, within = events.split(start_ns, end_ns)
    period = AggregationPeriod(start_ns, end_ns, find_zone(scope.time_zone))
    value = evaluate(meter, within, period, carried=carried, initial_value=level)
    return UsageQuantity(value, len(within), version)
