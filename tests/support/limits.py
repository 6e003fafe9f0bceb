"""The limits of usage events and meters as the code has them: the rows of docs/limits.md, and values at their edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from libs.ids import checks
from libs.messaging import PRODUCERS
from libs.money import MAX_INTEGER_DIGITS, MAX_ROUNDING_DIGITS, MAX_SCALE, MIN_ROUNDING_DIGITS, decimals
from libs.rpc.server import MAX_MESSAGE_BYTES
from services.ingest.domain import (
    door,
    expression_parser,
    expression_range,
    expressions,
    filters,
    meter,
    meter_versions,
    usage_batch,
)
from services.ingest.rpc import event_stream
from services.ingest.store.meters import DEFAULT_MAX_METERS
from steelyard.ingest.v1 import meter_pb2

METERED_TYPE = "metered"
"""Type of events that a meter adds `amount` up of."""

Rows = list[tuple[str, str, str]]


@dataclass(frozen=True)
class EventParts:
    """What differs from a good event. `offset_ns` is the event's time as nanoseconds after the tenant's now."""

    texts: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    offset_ns: int = 0


@dataclass(frozen=True)
class EventEdge:
    """`at(limit)` is the last that passes, `at(limit + 1)` is refused."""

    name: str
    limit: int
    at: Callable[[int], EventParts]
    field: str
    reason: str

    def __str__(self) -> str:
        return self.name


def _text(name: str) -> EventEdge:
    return EventEdge(name, door.MAX_TEXT, lambda n: EventParts({name: "ü" * n}), name, "TOO_LONG")


def _amount(text: str) -> EventParts:
    return EventParts({"event_type": METERED_TYPE}, {"amount": text})


def _ns(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1_000


EVENT_EDGES = [
    *map(_text, ("event_id", "source", "event_type", "customer_id")),
    EventEdge(
        "properties",
        door.MAX_PROPERTIES,
        lambda n: EventParts({}, {f"p{number}": "" for number in range(n)}),
        "properties",
        "TOO_MANY",
    ),
    EventEdge("key", door.MAX_KEY, lambda n: EventParts({}, {"k" * n: "v"}), f"properties.{'k' * 64}", "TOO_LONG"),
    EventEdge("value", door.MAX_VALUE, lambda n: EventParts({}, {"p": "ü" * n}), "properties.p", "TOO_LONG"),
    EventEdge(
        "integer digits", MAX_INTEGER_DIGITS, lambda n: _amount("-" + "9" * n), "properties.amount", "TOO_MANY_DIGITS"
    ),
    EventEdge("scale", MAX_SCALE, lambda n: _amount("0." + "1" * n), "properties.amount", "TOO_PRECISE"),
    EventEdge(
        "number text",
        decimals.MAX_TEXT,
        lambda n: _amount("1".rjust(n, "0")),
        "properties.amount",
        "TOO_MANY_DIGITS",
    ),
    EventEdge("exponent digits", 3, lambda n: _amount("0e" + "9" * n), "properties.amount", "NOT_A_NUMBER"),
    EventEdge(
        "past",
        _ns(door.DEFAULT_PAST_LIMIT),
        lambda n: EventParts(offset_ns=-n),
        "event_time",
        "TOO_OLD",
    ),
    EventEdge(
        "future",
        _ns(door.DEFAULT_FUTURE_LIMIT),
        lambda n: EventParts(offset_ns=n),
        "event_time",
        "IN_FUTURE",
    ),
]


@dataclass(frozen=True)
class MeterEdge:
    """As EventEdge, of a meter."""

    name: str
    limit: int
    at: Callable[[int], meter_pb2.Meter]
    field: str
    reason: str

    def __str__(self) -> str:
        return self.name


def _meter(**changes: object) -> meter_pb2.Meter:
    given = {"meter_id": "m", "event_type": "t", "aggregation": meter_pb2.AGGREGATION_SUM, "expression": "v"}
    return meter_pb2.Meter(**(given | changes))  # type: ignore[arg-type]


def _meter_text(name: str, limit: int, reason: str = "TOO_LONG") -> MeterEdge:
    return MeterEdge(name, limit, lambda n: _meter(**{name: "m" * n}), f"meter.{name}", reason)


def _filter(name: str = "p", **changes: object) -> meter_pb2.PropertyFilter:
    return meter_pb2.PropertyFilter(property=name, **changes)  # type: ignore[arg-type]


def _percentile(hundredths: int) -> meter_pb2.Meter:
    whole, part = divmod(hundredths, 100)
    return _meter(aggregation=meter_pb2.AGGREGATION_PERCENTILE, percentile=f"{whole}.{part:02}")


def _rounded(digits: int) -> meter_pb2.Meter:
    function = meter_pb2.ROUNDING_FUNCTION_ROUND
    return _meter(rounding=meter_pb2.QuantityRounding(function=function, digits=digits))


METER_EDGES = [
    _meter_text("meter_id", checks.MAX_RESOURCE_ID, "INVALID_ID"),
    _meter_text("display_name", meter.MAX_NAME),
    _meter_text("description", meter.MAX_DESCRIPTION),
    _meter_text("event_type", meter.MAX_EVENT_TYPE),
    _meter_text("unit", meter.MAX_UNIT),
    _meter_text("expression", expression_parser.MAX_LENGTH),
    MeterEdge(
        "expression depth",
        expression_parser.MAX_DEPTH,
        lambda n: _meter(expression="(" * n + "v" + ")" * n),
        "meter.expression",
        "TOO_DEEP",
    ),
    MeterEdge(
        "expression parts",
        expression_parser.MAX_NODES,
        # Each sign is a part, and the property.
        lambda n: _meter(expression="+".join(["v"] * ((n + 1) // 2) if n % 2 else [*["v"] * (n // 2 - 1), "-v"])),
        "meter.expression",
        "TOO_COMPLEX",
    ),
    MeterEdge(
        "filters",
        filters.MAX_FILTERS,
        lambda n: _meter(filters=[_filter(f"p{number}") for number in range(n)]),
        "meter.filters",
        "TOO_MANY",
    ),
    MeterEdge(
        "exclusions",
        filters.MAX_FILTERS,
        lambda n: _meter(exclude=[meter_pb2.Exclusion(filters=[_filter()])] * n),
        "meter.exclude",
        "TOO_MANY",
    ),
    MeterEdge(
        "filters of an exclusion",
        filters.MAX_FILTERS,
        lambda n: _meter(exclude=[meter_pb2.Exclusion(filters=[_filter(f"p{number}") for number in range(n)])]),
        "meter.exclude[0]",
        "TOO_MANY",
    ),
    MeterEdge(
        "values of a filter",
        filters.MAX_FILTER_VALUES,
        lambda n: _meter(filters=[_filter(operator=meter_pb2.FILTER_OPERATOR_IN, values=map(str, range(n)))]),
        "meter.filters[0].values",
        "TOO_MANY",
    ),
    MeterEdge(
        "value of a filter",
        filters.MAX_PROPERTY_VALUE,
        lambda n: _meter(filters=[_filter(value="v" * n)]),
        "meter.filters[0].value",
        "TOO_LONG",
    ),
    MeterEdge(
        "property of a filter",
        filters.MAX_PROPERTY,
        lambda n: _meter(filters=[_filter("p" * n)]),
        "meter.filters[0].property",
        "TOO_LONG",
    ),
    MeterEdge(
        "group_by",
        meter.MAX_GROUP_BY,
        lambda n: _meter(group_by=[f"p{number}" for number in range(n)]),
        "meter.group_by",
        "TOO_MANY",
    ),
    MeterEdge("percentile", 100_00, _percentile, "meter.percentile", "OUT_OF_RANGE"),
    MeterEdge("rounding up", MAX_ROUNDING_DIGITS, _rounded, "meter.rounding.digits", "OUT_OF_RANGE"),
    MeterEdge(
        "rounding down",
        -MIN_ROUNDING_DIGITS,
        lambda n: _rounded(-n),
        "meter.rounding.digits",
        "OUT_OF_RANGE",
    ),
]


def documented() -> Rows:
    """What docs/limits.md has to say: name, limit, what comes beyond it."""
    return [
        ("`event_id`, `source`, `event_type`, `customer_id`", f"1 to {door.MAX_TEXT} characters", "`TOO_LONG`"),
        ("properties of an event", _number(door.MAX_PROPERTIES), "`TOO_MANY`"),
        ("name of a property", f"1 to {door.MAX_KEY} characters", "`TOO_LONG`"),
        ("value of a property", f"{door.MAX_VALUE} characters", "`TOO_LONG`"),
        ("number, before the point", f"{MAX_INTEGER_DIGITS} digits", "`TOO_MANY_DIGITS`"),
        ("number, after the point", f"{MAX_SCALE} digits", "`TOO_PRECISE`"),
        ("number, as it is written", f"{decimals.MAX_TEXT} characters", "`TOO_MANY_DIGITS`"),
        ("number, exponent", "3 digits", "`NOT_A_NUMBER`"),
        ("event time, back", f"{door.DEFAULT_PAST_LIMIT.days} days", "`TOO_OLD`"),
        ("event time, ahead", f"{_hours(door.DEFAULT_FUTURE_LIMIT)} hour", "`IN_FUTURE`"),
        ("events of a batch", _number(usage_batch.MAX_BATCH_EVENTS), "`BATCH_TOO_LARGE`"),
        ("bytes of a batch, encoded", _number(usage_batch.MAX_BATCH_BYTES), "`BATCH_TOO_LARGE`"),
        ("bytes of a gRPC message", _number(MAX_MESSAGE_BYTES), "RESOURCE_EXHAUSTED"),
        ("batches of a stream without an answer", _number(event_stream.MAX_BATCHES), "`CREDIT_EXCEEDED`"),
        ("bytes of a stream without an answer", _number(event_stream.MAX_BYTES), "`CREDIT_EXCEEDED`"),
        ("bytes of a message over NATS", _number(PRODUCERS.max_msg_size), "the server refuses it"),
        ("bytes that wait over NATS, of all tenants", _number(PRODUCERS.max_bytes), "the server refuses more"),
        ("`meter_id`", f"1 to {checks.MAX_RESOURCE_ID} characters", "`INVALID_ID`"),
        ("`display_name`", f"{meter.MAX_NAME} characters", "`TOO_LONG`"),
        ("`description`", f"{_number(meter.MAX_DESCRIPTION)} characters", "`TOO_LONG`"),
        ("`event_type` of a meter", f"1 to {meter.MAX_EVENT_TYPE} characters", "`TOO_LONG`"),
        ("`unit`", f"{meter.MAX_UNIT} characters", "`TOO_LONG`"),
        ("expression", f"{expression_parser.MAX_LENGTH} characters", "`TOO_LONG`"),
        ("expression, nesting", _number(expression_parser.MAX_DEPTH), "`TOO_DEEP`"),
        ("expression, parts", _number(expression_parser.MAX_NODES), "`TOO_COMPLEX`"),
        (
            "result of an expression",
            f"{expression_range.MAX_RESULT_DIGITS} digits, {expression_range.MAX_RESULT_SCALE} after the point",
            "`RESULT_OUT_OF_RANGE`",
        ),
        ("text of an expression", f"{expressions.MAX_RESULT_LENGTH} characters", "`RESULT_TOO_LONG`"),
        ("filters, exclusions, filters of one", _number(filters.MAX_FILTERS), "`TOO_MANY`"),
        ("values of a filter", _number(filters.MAX_FILTER_VALUES), "`TOO_MANY`"),
        ("one of these values", f"{filters.MAX_PROPERTY_VALUE} characters", "`TOO_LONG`"),
        ("`group_by`", _number(meter.MAX_GROUP_BY), "`TOO_MANY`"),
        ("rounding", f"{MIN_ROUNDING_DIGITS} to {MAX_ROUNDING_DIGITS} digits", "`OUT_OF_RANGE`"),
        ("meters that are not archived", _number(DEFAULT_MAX_METERS), "`METER_LIMIT`"),
        ("meters", _number(DEFAULT_MAX_METERS * meter_versions.ARCHIVED_PER_LIVE), "`METER_LIMIT`"),
        ("versions of a meter", _number(meter_versions.MAX_VERSIONS), "`METER_VERSION_LIMIT`"),
    ]


def _number(value: int) -> str:
    return f"{value:,}"


def _hours(length: timedelta) -> int:
    return length // timedelta(hours=1)
