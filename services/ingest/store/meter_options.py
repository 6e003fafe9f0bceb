"""What a meter is told beside its columns, as JSON. Absent is the default: meters from before an option read as they
always did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from libs.money import RoundingFunction, parse_decimal, plain
from services.ingest.domain.filters import FilterOperator
from services.ingest.domain.meter import Meter, PropertyFilter
from services.ingest.domain.meter_options import (
    Aggregation,
    BucketLength,
    Buckets,
    EmptyBuckets,
    EmptyResult,
    LevelUnit,
    Rounding,
)

Json = dict[str, Any]


def options_to_json(meter: Meter) -> Json:
    """Everything that is not as it is by default."""
    default = Meter(meter.meter_id, "", "", meter.aggregation)
    found: Json = {
        name: getattr(meter, name)
        for name in (
            "unit_property",
            "operation_property",
            "level_unit",
            "carry_over",
            "prorated",
            "negative_as_zero",
            "empty",
        )
        if getattr(meter, name) != getattr(default, name)
    }
    if meter.exclude:
        found["exclude"] = [filters_to_json(filters) for filters in meter.exclude]
    if meter.buckets is not None:
        buckets = meter.buckets
        found["buckets"] = [buckets.length, buckets.aggregation, buckets.time_zone, buckets.empty]
    if meter.percentile is not None:
        found["percentile"] = plain(meter.percentile)
    if meter.rounding is not None:
        found["rounding"] = [meter.rounding.function, meter.rounding.digits]
    if meter.multiplier != default.multiplier:
        found["multiplier"] = plain(meter.multiplier)
    return found


def options_from_json(stored: Json) -> Json:
    """The arguments of Meter that they are."""
    found: Json = {
        name: stored[name]
        for name in ("unit_property", "operation_property", "carry_over", "prorated", "negative_as_zero")
        if name in stored
    }
    if "level_unit" in stored:
        found["level_unit"] = LevelUnit(stored["level_unit"])
    if "empty" in stored:
        found["empty"] = EmptyResult(stored["empty"])
    if "exclude" in stored:
        found["exclude"] = tuple(filters_from_json(filters) for filters in stored["exclude"])
    if "buckets" in stored:
        length, aggregation, time_zone, empty = stored["buckets"]
        found["buckets"] = Buckets(BucketLength(length), Aggregation(aggregation), time_zone, EmptyBuckets(empty))
    if "percentile" in stored:
        found["percentile"] = parse_decimal(stored["percentile"])
    if "rounding" in stored:
        function, digits = stored["rounding"]
        found["rounding"] = Rounding(RoundingFunction(function), digits)
    if "multiplier" in stored:
        found["multiplier"] = Decimal(stored["multiplier"])
    return found


def filters_to_json(filters: Iterable[PropertyFilter]) -> list[list[Any]]:
    """Pairs where property and value say it all."""
    return [
        [item.property, item.value]
        if item.operator is FilterOperator.EQUALS
        else [item.property, item.value, item.operator, list(item.values)]
        for item in filters
    ]


def filters_from_json(stored: Sequence[Sequence[Any]]) -> tuple[PropertyFilter, ...]:
    return tuple(
        PropertyFilter(*item)
        if len(item) == 2
        else PropertyFilter(item[0], item[1], FilterOperator(item[2]), tuple(item[3]))
        for item in stored
    )
