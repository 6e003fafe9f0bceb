"""Events by buckets of time, and what the buckets come to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from zoneinfo import ZoneInfo

from libs.money import QUANTITY_CONTEXT, Exact
from libs.periods import BucketSize, Period, buckets, find_zone
from services.ingest.domain.aggregations.columns import EventColumns
from services.ingest.domain.aggregations.percentiles import percentile
from services.ingest.domain.aggregations.period import AggregationPeriod, to_datetime
from services.ingest.domain.aggregations.state_columns import state_columns
from services.ingest.domain.aggregations.states import state_value
from services.ingest.domain.aggregations.unique import unique_counts
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter_options import Aggregation, BucketLength, Buckets, EmptyBuckets

_MINUTE_NS = 60 * 10**9
# The same in every zone, whose offsets are whole quarters of an hour.
_FIXED_NS = {
    BucketLength.MINUTE: _MINUTE_NS,
    BucketLength.FIVE_MINUTES: 5 * _MINUTE_NS,
    BucketLength.QUARTER_HOUR: 15 * _MINUTE_NS,
}
_FIXED_IN_UTC_NS = _FIXED_NS | {BucketLength.HOUR: 60 * _MINUTE_NS, BucketLength.DAY: 1_440 * _MINUTE_NS}
_LOCAL = {BucketLength.HOUR: BucketSize.HOUR, BucketLength.DAY: BucketSize.DAY}
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class BucketGrid:
    """The buckets of a period, in order; the first and the last one may be cut by its edges.

    `cuts_ns` are all the starts of buckets inside the period if they are not `length_ns` apart.
    """

    start_ns: int
    end_ns: int
    length_ns: int
    cuts_ns: Sequence[int] = ()

    @classmethod
    def of(cls, period: AggregationPeriod, length: BucketLength, zone: ZoneInfo) -> BucketGrid:
        fixed = (_FIXED_IN_UTC_NS if zone.key == "UTC" else _FIXED_NS).get(length)
        if fixed is not None:
            return cls(period.start_ns, period.end_ns, fixed)
        whole = Period(to_datetime(period.start_ns), to_datetime(period.end_ns + 999) + timedelta(microseconds=1))
        starts = (to_ns(bucket.start) for bucket in buckets(whole, _LOCAL[length], zone))
        return cls(period.start_ns, period.end_ns, 0, [at for at in starts if period.start_ns < at < period.end_ns])

    @property
    def count(self) -> int:
        if not self.length_ns:
            return len(self.cuts_ns) + 1
        return (self.end_ns - 1) // self.length_ns - self.start_ns // self.length_ns + 1

    def indexes(self, times_ns: Sequence[int]) -> list[int]:
        """The number of the bucket, from 0, of each time in the period."""
        if not self.length_ns:
            return [bisect_right(self.cuts_ns, time_ns) for time_ns in times_ns]
        length_ns, first = self.length_ns, self.start_ns // self.length_ns
        return [time_ns // length_ns - first for time_ns in times_ns]

    def bounds(self, index: int) -> tuple[int, int]:
        """Start and end of a bucket."""
        if self.length_ns:
            start_ns = (self.start_ns // self.length_ns + index) * self.length_ns
            return max(start_ns, self.start_ns), min(start_ns + self.length_ns, self.end_ns)
        cuts_ns = (self.start_ns, *self.cuts_ns, self.end_ns)
        return cuts_ns[index], cuts_ns[index + 1]


def bucket_values(aggregation: Aggregation, events: EventColumns, grid: BucketGrid) -> dict[int, Exact]:
    """The quantity of each bucket that has events, by its number, in order.

    :raises ValueError: if the aggregation does not go into buckets
    """
    indexes = grid.indexes(events.times_ns)
    if aggregation is Aggregation.UNIQUE_COUNT:
        counts = unique_counts(indexes, events)
        return {index: Decimal(counts[index]) for index in sorted(counts)}
    places: dict[int, int] = {index: place for place, index in enumerate(dict.fromkeys(indexes))}
    columns = state_columns(aggregation)
    columns.make_room(len(places))
    moments = events.moments() if columns.needs_moments else ()
    columns.add([places[index] for index in indexes], events.values, moments)
    found = {}
    for index in sorted(places):
        value = state_value(aggregation, columns.state(places[index]))
        assert value is not None  # Only of buckets without an event.
        found[index] = value
    return found


def over_buckets(
    aggregation: Aggregation,
    options: Buckets,
    events: EventColumns,
    period: AggregationPeriod,
    percent: Decimal | None = None,
) -> Exact | None:
    """Aggregate in each bucket, then over the buckets; None without an event.

    :raises ValueError: if an aggregation does not go with buckets
    """
    grid = BucketGrid.of(period, options.length, find_zone(options.time_zone))
    values = list(bucket_values(options.aggregation, events, grid).values())
    return over_values(aggregation, options, values, grid.count, percent)


def over_values(
    aggregation: Aggregation, options: Buckets, values: Sequence[Exact], bucket_count: int, percent: Decimal | None
) -> Exact | None:
    """Aggregate the values of the buckets that have events, of `bucket_count` buckets; None if none has.

    :raises ValueError: if the aggregation does not go over buckets
    """
    zeros = bucket_count - len(values) if options.empty is EmptyBuckets.ZERO else 0
    if not values:
        return None
    match aggregation:
        case Aggregation.SUM:
            return _sum(values)
        case Aggregation.AVG:
            return Fraction(_sum(values)) / (len(values) + zeros)
        case Aggregation.MIN:
            return min(min(values), _ZERO) if zeros else min(values)
        case Aggregation.MAX:
            return max(max(values), _ZERO) if zeros else max(values)
        case Aggregation.PERCENTILE if percent is not None:
            return percentile(values, percent, zeros)
        case other:
            raise ValueError(f"{other} does not go over buckets")


def _sum(values: Sequence[Exact]) -> Exact:
    decimals = [value for value in values if isinstance(value, Decimal)]
    total = reduce(QUANTITY_CONTEXT.add, decimals, _ZERO)
    if len(decimals) == len(values):
        return total
    return Fraction(total) + sum((value for value in values if isinstance(value, Fraction)), Fraction(0))
