"""What a meter can be told beside what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libs.money import RoundingFunction


class Aggregation(StrEnum):
    """How values are put together."""

    COUNT = "count"
    """Number of events."""
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVG = "avg"
    """Sum divided by number of events."""
    LATEST = "latest"
    """The value of the event with the greatest event time; of several the one recorded last."""
    UNIQUE_COUNT = "unique_count"
    """Number of distinct texts; exact."""
    WEIGHTED_SUM = "weighted_sum"
    """Events raise and lower a level; the level times how long it lasted."""
    PERCENTILE = "percentile"
    """Nearest rank: the smallest value that so many percent of all values do not exceed."""


WINDOWED = frozenset(
    {
        Aggregation.COUNT,
        Aggregation.SUM,
        Aggregation.MIN,
        Aggregation.MAX,
        Aggregation.AVG,
        Aggregation.LATEST,
    }
)
"""Aggregations whose values of parts of a time give the value of the whole."""


class BucketLength(StrEnum):
    """How long a bucket is; hours and days are local ones, 23 to 25 hours where clocks change."""

    MINUTE = "minute"
    FIVE_MINUTES = "5_minutes"
    QUARTER_HOUR = "15_minutes"
    HOUR = "hour"
    DAY = "day"


class EmptyBuckets(StrEnum):
    """What buckets without an event are."""

    ZERO = "zero"
    """Buckets with the value zero: nothing was used."""
    SKIP = "skip"
    """No buckets: nothing was measured."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Events are first aggregated in each bucket of time; the meter's aggregation then goes over the buckets."""

    length: BucketLength
    aggregation: Aggregation
    time_zone: str = "UTC"
    empty: EmptyBuckets = EmptyBuckets.ZERO


class LevelUnit(StrEnum):
    """By what the time of a level is counted in a weighted sum."""

    PERIOD = "period"
    """The whole period is 1: the result is the average level (GB-months)."""
    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    """24 hours."""


class EmptyResult(StrEnum):
    """The quantity of a time without an event, except of counts, which are zero."""

    ZERO = "zero"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Rounding:
    """Of the quantity of a whole period; -2 digits mean hundreds."""

    function: RoundingFunction
    digits: int = 0
