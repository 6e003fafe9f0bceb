"""What meters measure in the events of a batch, column by column."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import compress
from typing import TypeVar

from libs.errors import Violation
from services.ingest.domain.aggregations.columns import Operation
from services.ingest.domain.event_rows import MISSING_PROPERTY, PropertyRows, UnusableProperty
from services.ingest.domain.expressions import EvaluationFailed, Expression, ValueType
from services.ingest.domain.filters import matching_rows
from services.ingest.domain.meter import Meter
from services.ingest.domain.units import UnitRejected, convert
from services.ingest.domain.usage_batch import UsageColumns

T = TypeVar("T")

_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What one meter measured: `values[i]` in the event with index `rows[i]`.

    Of a unique count `values` are ones, and `texts[i]` is what was added to or removed from the set; else both lists
    of texts and operations are empty.
    """

    meter: Meter
    rows: list[int]
    values: list[Decimal]
    texts: Sequence[str] = ()
    operations: Sequence[Operation] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """The readings of all meters, without any row of an event in `problems` (index -> first problem)."""

    readings: list[MeterReading]
    problems: dict[int, Violation]


class _Unusable(ValueError):
    """An event cannot be measured."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.description)
        self.violation = violation


def measure(events: UsageColumns, meters: Sequence[Meter], skip: Container[int] = ()) -> Measurement:
    """Evaluate each meter on the events of its type that pass its filters, except those whose index is in `skip`.

    An event that lacks a property that a meter of its needs, or has one that is no number there, is a problem as a
    whole: it counts for no meter.
    """
    rows_by_type: dict[str, list[int]] = {meter.event_type: [] for meter in meters}
    for row, event_type in enumerate(events.event_types):
        rows = rows_by_type.get(event_type)
        if rows is not None and row not in skip:
            rows.append(row)
    problems: dict[int, Violation] = {}
    readings = []
    sources = {event_type: PropertyRows(rows, events) for event_type, rows in rows_by_type.items()}
    for meter in meters:
        of_type = sources[meter.event_type]
        rows = of_type.rows
        if meter.filters or meter.exclude:
            rows, undecided = matching_rows(meter.filters, meter.exclude, events.properties, rows)
            for row in sorted(undecided):
                problems.setdefault(row, undecided[row])
        if rows:
            readings.append(_read(meter, of_type.of(rows), problems))
    return Measurement([_without(reading, problems) for reading in readings] if problems else readings, problems)


def _read(meter: Meter, events: PropertyRows, problems: dict[int, Violation]) -> MeterReading:
    expression, rows = meter.compiled, events.rows
    if expression is None:
        return MeterReading(meter, rows, [_ONE] * len(rows))
    try:
        return _read_columns(meter, expression, events)
    except (UnusableProperty, EvaluationFailed, _Unusable):
        return _read_with_problems(meter, expression, events, problems)


def _read_columns(meter: Meter, expression: Expression, events: PropertyRows) -> MeterReading:
    """
    :raises UnusableProperty, EvaluationFailed, _Unusable: if an event cannot be measured
    """
    rows = events.rows
    found = expression.evaluate(events, rows)
    if expression.result_type is ValueType.TEXT:
        return MeterReading(meter, rows, [_ONE] * len(rows), list(found), _operations(meter, events))
    values = _converted(meter, events, found) if meter.unit_property else list(found)
    return MeterReading(meter, rows, values)


def _read_with_problems(
    meter: Meter, expression: Expression, events: PropertyRows, problems: dict[int, Violation]
) -> MeterReading:
    """The slow way, event by event, taken by batches in which at least one event has a problem."""
    parts = []
    for row in events.rows:
        outcome = _read_one(meter, expression, events.of([row]))
        if isinstance(outcome, Violation):
            problems.setdefault(row, outcome)
        else:
            parts.append(outcome)
    return MeterReading(
        meter,
        rows=[row for part in parts for row in part.rows],
        values=[value for part in parts for value in part.values],
        texts=[text for part in parts for text in part.texts],
        operations=[operation for part in parts for operation in part.operations],
    )


def _read_one(meter: Meter, expression: Expression, event: PropertyRows) -> MeterReading | Violation:
    try:
        return _read_columns(meter, expression, event)
    except UnusableProperty as error:
        description = f"meter {meter.meter_id} needs it" if error.reason == MISSING_PROPERTY else str(error)
        return Violation(f"properties.{error.name}", error.reason, description)
    except EvaluationFailed as error:
        return Violation("properties", error.reasons[0], f"meter {meter.meter_id} has no value for it")
    except _Unusable as error:
        return error.violation


def _operations(meter: Meter, events: PropertyRows) -> list[Operation]:
    """
    :raises _Unusable: if one is unknown
    """
    name = meter.operation_property
    if not name:
        return [Operation.ADD] * len(events.rows)
    texts = [events.properties[row].get(name, Operation.ADD) for row in events.rows]
    try:
        return list(map(Operation, texts))
    except ValueError as error:
        raise _Unusable(Violation(f"properties.{name}", "UNKNOWN_OPERATION", "must be add or remove")) from error


def _converted(meter: Meter, events: PropertyRows, values: Sequence[Decimal]) -> list[Decimal]:
    """The values in the meter's unit.

    :raises _Unusable: if one cannot be converted exactly
    """
    name, unit = meter.unit_property, meter.unit
    units = [events.properties[row].get(name, unit) for row in events.rows]
    try:
        return [convert(value, sent, unit) for value, sent in zip(values, units, strict=True)]
    except UnitRejected as error:
        raise _Unusable(Violation(f"properties.{name}", error.reason, str(error))) from error


def _without(reading: MeterReading, problems: dict[int, Violation]) -> MeterReading:
    kept = [row not in problems for row in reading.rows]
    return replace(
        reading,
        rows=_kept(reading.rows, kept),
        values=_kept(reading.values, kept),
        texts=_kept(reading.texts, kept),
        operations=_kept(reading.operations, kept),
    )


def _kept(column: Sequence[T], kept: Sequence[bool]) -> list[T]:
    """`compress` ends with the shorter one: an empty column stays empty."""
    return list(compress(column, kept))
