"""Exact quantities of customers over any time: what a billing period is charged by where windows do not add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from libs.periods import Period, find_zone, is_window_aligned
from services.ingest.domain.aggregations import AggregationPeriod, EventColumns, WindowState, evaluate, evaluate_states
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation

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

    `highest_version` is that of the windows it answers for, those carried over included. A change after it has a
    higher one.
    """

    value: Decimal | None
    event_count: int
    highest_version: int


class QuantityStore(Protocol):
    """Reads of one moment or, in this order, of later ones: no value lacks what its version covers."""

    async def meters(self, tenant_id: str, meter_ids: Sequence[str]) -> Mapping[str, Meter]:
        """
        :raises MeterNotFound: if there is no such meter
        """

    async def versions(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[int]:
        """Return the highest version of the windows of each scope, 0 without any; if the meter carries over, those
        before the scope included."""

    async def states(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[WindowState]:
        """Return the merged state of the windows of each scope."""

    async def levels(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[Decimal]:
        """Return the sum of all windows before each scope."""

    async def events(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], *, carried: bool
    ) -> list[EventColumns]:
        """Return what was measured in each scope, and with `carried` also all before."""


class GetUsageQuantities:
    """Evaluates meters exactly, from windows where these tell, else from the log."""

    def __init__(self, store: QuantityStore) -> None:
        self._store = store

    async def __call__(self, tenant_id: str, scopes: Sequence[QuantityScope]) -> list[UsageQuantity]:
        """Return one quantity per scope.

        :raises MeterNotFound: if there is no such meter
        :raises InvalidInput: if a time zone is unknown
        """
        meters = await self._store.meters(tenant_id, sorted({scope.meter_id for scope in scopes}))
        found: dict[int, UsageQuantity] = {}
        for meter_id, meter in meters.items():
            numbers = [number for number, scope in enumerate(scopes) if scope.meter_id == meter_id]
            quantities = await self._of_meter(tenant_id, meter, [scopes[number] for number in numbers])
            found |= dict(zip(numbers, quantities, strict=True))
        return [found[number] for number in range(len(scopes))]

    async def _of_meter(self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]) -> list[UsageQuantity]:
        versions = await self._store.versions(tenant_id, meter, scopes)
        if meter.mergeable and all(_is_whole(scope.period) for scope in scopes):
            states = await self._store.states(tenant_id, meter, scopes)
            return [
                UsageQuantity(evaluate_states(meter, [state]), state.event_count, version)
                for state, version in zip(states, versions, strict=True)
            ]
        levels, carried = [_ZERO] * len(scopes), meter.carry_over
        if carried and meter.aggregation is Aggregation.WEIGHTED_SUM and all(map(_starts_whole, scopes)):
            # All that came before is one number, which windows have; a level is kept up for years.
            levels, carried = await self._store.levels(tenant_id, meter, scopes), False
        columns = await self._store.events(tenant_id, meter, scopes, carried=carried)
        return [_evaluated(meter, *item) for item in zip(scopes, columns, levels, versions, strict=True)]


def _starts_whole(scope: QuantityScope) -> bool:
    return is_window_aligned(scope.period.start)


def _is_whole(period: Period) -> bool:
    return is_window_aligned(period.start) and is_window_aligned(period.end)


def _evaluated(meter: Meter, scope: QuantityScope, events: EventColumns, level: Decimal, version: int) -> UsageQuantity:
    start_ns, end_ns = to_ns(scope.period.start), to_ns(scope.period.end)
    carried, within = events.split(start_ns, end_ns)
    period = AggregationPeriod(start_ns, end_ns, find_zone(scope.time_zone))
    value = evaluate(meter, within, period, carried=carried, initial_value=level)
    return UsageQuantity(value, len(within), version)
