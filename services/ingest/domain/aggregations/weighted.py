"""Time-weighted sums: events raise and lower a level, and what counts is the level times how long it lasted."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import reduce

from libs.money import QUANTITY_CONTEXT
from services.ingest.domain.aggregations.columns import EventColumns
from services.ingest.domain.aggregations.period import AggregationPeriod
from services.ingest.domain.meter_options import LevelUnit

_SECOND = 10**9
_UNIT_NS = {
    LevelUnit.SECOND: _SECOND,
    LevelUnit.MINUTE: 60 * _SECOND,
    LevelUnit.HOUR: 3_600 * _SECOND,
    LevelUnit.DAY: 86_400 * _SECOND,
}


def weighted_sum(
    events: EventColumns,
    carried: EventColumns,
    period: AggregationPeriod,
    *,
    initial_value: Decimal,
    unit: LevelUnit,
) -> Fraction:
    """The level, times nanoseconds, added up over the period and divided by the unit of time; exact.

    The level begins at `initial_value` plus all `carried` values; each event changes it from its instant on.

    :raises decimal.DecimalException: if a sum leaves the range of quantities
    """
    add, multiply = QUANTITY_CONTEXT.add, QUANTITY_CONTEXT.multiply
    level = reduce(add, carried.values, initial_value)
    remaining = [Decimal(period.end_ns - time_ns) for time_ns in events.times_ns]
    total = reduce(add, map(multiply, events.values, remaining), multiply(level, Decimal(period.length_ns)))
    return Fraction(total) / (period.length_ns if unit is LevelUnit.PERIOD else _UNIT_NS[unit])
