"""Meters that mean what vectors ask for; conventions become options."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from libs.money import RoundingFunction
from services.ingest.domain.filters import FilterOperator
from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter, meter_violations
from services.ingest.domain.meter_options import BucketLength, Buckets, EmptyResult, Rounding
from tests.vectors.aggregations.events import EVENT_TYPE, OPERATION
from tests.vectors.contradictions import unsupported

_MODES = {
    "half_up": RoundingFunction.ROUND,
    "round": RoundingFunction.ROUND,
    **dict.fromkeys(("ceil", "ceiling", "up"), RoundingFunction.CEIL),
    **dict.fromkeys(("floor", "down"), RoundingFunction.FLOOR),
}


def meter_of(vector: Mapping[str, Any]) -> Meter:
    """The meter that measures as a vector of events asks.

    :raises Unsupported: if there is no such aggregation or option
    """
    given, convention = vector["input"], vector["convention"]
    aggregation, bucket = _member(Aggregation, given["aggregation"]), given.get("bucket")
    operations = any(event.get("operation") is not None for event in given["events"])
    meter = Meter(
        meter_id="vector",
        display_name="",
        event_type=EVENT_TYPE,
        aggregation=aggregation if bucket is None else Aggregation.SUM,
        expression="" if aggregation is Aggregation.COUNT else given["field"],
        filters=_filters(given, aggregation),
        group_by=tuple(given.get("group_by", ())),
        exclude=tuple(
            tuple(_one_of(name, values) for name, values in entry.items()) for entry in given.get("exclude", ())
        ),
        operation_property=OPERATION if aggregation is Aggregation.UNIQUE_COUNT and operations else "",
        buckets=None if bucket is None else Buckets(_member(BucketLength, bucket), aggregation),
        carry_over=bool(given.get("carry_over")),
        prorated=vector["kind"].startswith("prorated_"),
        negative_as_zero=aggregation is Aggregation.LATEST and convention.get("latest_negative") == "zero",
        rounding=rounding_of(given.get("rounding")),
        multiplier=Decimal(given.get("multiplier") or 1),
        empty=_empty(aggregation, convention),
    )
    violations = meter_violations(meter)
    assert not violations, violations
    return meter


def rounding_of(given: Mapping[str, Any] | None) -> Rounding | None:
    """Of {mode, digits} or {function, precision}; without a mode nothing is rounded.

    :raises Unsupported: if it is not a mode of quantities
    """
    mode = (given or {}).get("mode", (given or {}).get("function"))
    if given is None or mode is None:
        return None
    if mode not in _MODES:
        unsupported("rounding_mode", mode)
    return Rounding(_MODES[mode], given.get("digits", given.get("precision")) or 0)


def _filters(given: Mapping[str, Any], aggregation: Aggregation) -> tuple[PropertyFilter, ...]:
    filters = [_one_of(name, values) for name, values in given.get("filters", {}).items()]
    filters += [PropertyFilter(name, operator=FilterOperator.NOT_EXISTS) for name in given.get("filters_null", ())]
    if aggregation is not Aggregation.COUNT:
        # Events without the field are not this meter's.
        filters.append(PropertyFilter(given["field"], operator=FilterOperator.EXISTS))
    return tuple(filters)


def _one_of(name: str, values: list[Any]) -> PropertyFilter:
    return PropertyFilter(name, operator=FilterOperator.IN, values=tuple(map(str, values)))


def _empty(aggregation: Aggregation, convention: Mapping[str, Any]) -> EmptyResult:
    counts = {Aggregation.COUNT, Aggregation.UNIQUE_COUNT}
    null = convention.get("empty") == "null_except_counts" and aggregation not in counts
    return EmptyResult.NULL if null else EmptyResult.ZERO


def _member(options: Any, name: str) -> Any:
    try:
        return options(name)
    except ValueError:
        unsupported("no_such_option", name)
