"""Which options of a meter go together."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from libs.errors import InvalidInput, Violation
from libs.ids import check_text
from libs.money import MAX_ROUNDING_DIGITS, MIN_ROUNDING_DIGITS, DecimalRejected, parse_decimal
from libs.periods import find_zone
from services.ingest.domain.filters import MAX_PROPERTY
from services.ingest.domain.meter_options import WINDOWED, Aggregation, Buckets, EmptyBuckets, EmptyResult, LevelUnit
from services.ingest.domain.units import is_known_unit

if TYPE_CHECKING:
    from services.ingest.domain.meter import Meter

_OVER_BUCKETS = frozenset({Aggregation.SUM, Aggregation.MIN, Aggregation.MAX, Aggregation.AVG, Aggregation.PERCENTILE})
_IN_BUCKETS = WINDOWED | {Aggregation.UNIQUE_COUNT}
_PRORATED = frozenset({Aggregation.SUM, Aggregation.UNIQUE_COUNT})
_WITHOUT_CARRY_OVER = frozenset({Aggregation.PERCENTILE})
_NEVER_EMPTY = frozenset({Aggregation.COUNT, Aggregation.UNIQUE_COUNT, Aggregation.WEIGHTED_SUM})


def option_violations(meter: Meter, name: str) -> Iterator[Violation]:
    """Options that are out of range, or mean nothing beside the others."""
    yield from _unit_violations(meter, name)
    if meter.operation_property:
        yield from _property_violations(meter.operation_property, f"{name}.operation_property")
        if meter.event_aggregation is not Aggregation.UNIQUE_COUNT:
            yield _not_allowed(f"{name}.operation_property", "only unique counts add and remove")
    if meter.buckets is not None:
        yield from _bucket_violations(meter.aggregation, meter.buckets, name)
    yield from _percentile_violations(meter, f"{name}.percentile")
    if meter.level_unit is not LevelUnit.PERIOD and meter.aggregation is not Aggregation.WEIGHTED_SUM:
        yield _not_allowed(f"{name}.level_unit", "only weighted sums count how long something lasted")
    if meter.carry_over and (meter.buckets is not None or meter.aggregation in _WITHOUT_CARRY_OVER):
        yield _not_allowed(f"{name}.carry_over", "buckets and percentiles know the events of the period alone")
    if meter.prorated and (meter.buckets is not None or meter.aggregation not in _PRORATED):
        yield _not_allowed(f"{name}.prorated", "only sums and unique counts without buckets are prorated")
    if meter.negative_as_zero and meter.aggregation is not Aggregation.LATEST:
        yield _not_allowed(f"{name}.negative_as_zero", "only of the latest value")
    if meter.empty is EmptyResult.NULL and (meter.aggregation in _NEVER_EMPTY or meter.prorated):
        yield _not_allowed(f"{name}.empty", f"{meter.aggregation} of nothing is zero")
    yield from _rounding_violations(meter, name)


def _unit_violations(meter: Meter, name: str) -> Iterator[Violation]:
    if not meter.unit_property:
        return  # Then the unit is a word on reports, whatever it is.
    yield from _property_violations(meter.unit_property, f"{name}.unit_property")
    if meter.event_aggregation in {Aggregation.COUNT, Aggregation.UNIQUE_COUNT}:
        yield _not_allowed(f"{name}.unit_property", f"{meter.event_aggregation} has no values to convert")
    elif not meter.unit:
        yield Violation(f"{name}.unit", "REQUIRED", "events with units need a unit to convert them to")
    elif not is_known_unit(meter.unit):
        yield Violation(f"{name}.unit", "UNKNOWN_UNIT", f"{meter.unit[:64]!r} is not a unit that can be converted")


def _bucket_violations(aggregation: Aggregation, buckets: Buckets, name: str) -> Iterator[Violation]:
    if aggregation not in _OVER_BUCKETS:
        yield _not_allowed(f"{name}.aggregation", f"{aggregation} does not go over buckets")
    if buckets.aggregation not in _IN_BUCKETS:
        yield _not_allowed(f"{name}.buckets.aggregation", f"{buckets.aggregation} does not go into buckets")
    if buckets.empty is EmptyBuckets.SKIP and aggregation is Aggregation.SUM:
        yield _not_allowed(f"{name}.buckets.empty", "empty buckets add nothing")
    try:
        find_zone(buckets.time_zone, f"{name}.buckets.time_zone")
    except InvalidInput as error:
        yield from error.violations


def _percentile_violations(meter: Meter, name: str) -> Iterator[Violation]:
    if meter.aggregation is not Aggregation.PERCENTILE:
        if meter.percentile is not None:
            yield _not_allowed(name, "only percentiles have one")
    elif meter.percentile is None:
        yield Violation(name, "REQUIRED", "say which, for instance 95")
    elif not (_is_quantity(meter.percentile) and 0 < meter.percentile <= 100):
        yield Violation(name, "OUT_OF_RANGE", "must be above 0 and at most 100")


def _rounding_violations(meter: Meter, name: str) -> Iterator[Violation]:
    if meter.rounding is not None and not MIN_ROUNDING_DIGITS <= meter.rounding.digits <= MAX_ROUNDING_DIGITS:
        description = f"must be {MIN_ROUNDING_DIGITS} to {MAX_ROUNDING_DIGITS}, is {meter.rounding.digits}"
        yield Violation(f"{name}.rounding.digits", "OUT_OF_RANGE", description)
    if not (_is_quantity(meter.multiplier) and meter.multiplier > 0):
        yield Violation(f"{name}.multiplier", "OUT_OF_RANGE", "must be above 0, with as many digits as usage may have")


def _is_quantity(value: Decimal) -> bool:
    """Whether the door would let the number in."""
    try:
        parse_decimal(str(value))
    except DecimalRejected:
        return False
    return True


def _property_violations(text: str, name: str) -> Iterator[Violation]:
    violation = check_text(text, name, MAX_PROPERTY)
    if violation is not None:
        yield violation


def _not_allowed(name: str, description: str) -> Violation:
    return Violation(name, "NOT_ALLOWED", description)
