"""Vectors about one event or one number."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from libs.money import plain, round_decimal
from services.ingest.domain.event_rows import PropertyRows, UnusableProperty
from services.ingest.domain.expressions import EvaluationFailed, ExpressionRejected, ValueType, compile_expression
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.usage_batch import NANOSECONDS, UsageColumns
from tests.vectors.aggregations.events import EVENT_TYPE, properties_of
from tests.vectors.aggregations.meters import rounding_of

Vector = Mapping[str, Any]
Result = dict[str, Any]


def metric_rounding(vector: Vector) -> Result:
    given = vector["input"]
    value, rounding = Decimal(given["value"]), rounding_of(given)
    return {"value": plain(value if rounding is None else round_decimal(value, rounding.function, rounding.digits))}


def expression(vector: Vector) -> Result:
    """A meter decides whether it needs a number or a text, here the answer does; a refusal has to be one of both."""
    types = {"number": ValueType.NUMBER, "string": ValueType.TEXT}
    wanted = [name for name in types if name in vector["expected"]] or list(types)
    refusals = []
    for name in wanted:
        try:
            return {name: _evaluated(vector["input"], types[name])}
        except (ExpressionRejected, EvaluationFailed, UnusableProperty) as error:
            refusals.append(repr(error))
    return {"error": "; ".join(refusals)}


def _evaluated(given: Mapping[str, Any], wanted: ValueType) -> str:
    event = given["event"]
    columns = _single(event["code"], properties_of(event["properties"]), int(Decimal(event["timestamp"]) * NANOSECONDS))
    (value,) = compile_expression(given["expression"], wanted).evaluate(PropertyRows([0], columns), [0])
    return value if isinstance(value, str) else plain(value)


def event_value(vector: Vector) -> Result:
    given = vector["input"]
    aggregation = Aggregation(given["aggregation"])
    meter = Meter("vector", "", EVENT_TYPE, aggregation, "" if aggregation is Aggregation.COUNT else given["field"])
    measurement = measure(_single(EVENT_TYPE, properties_of(given["properties"]), 1), [meter])
    if measurement.problems:
        return {"error": measurement.problems[0].reason}
    (reading,) = measurement.readings
    return {"string": reading.texts[0]} if reading.texts else {"number": plain(reading.values[0])}


def _single(event_type: str, properties: dict[str, str], time_ns: int) -> UsageColumns:
    return UsageColumns(["1"], ["vectors"], [event_type], ["customer"], [time_ns], [properties])
