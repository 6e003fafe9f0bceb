"""What meters measure in the events of a batch, column by column."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from libs.errors import Violation
from libs.money import DecimalRejected, parse_decimal
from services.ingest.domain.expressions import EvaluationFailed, Expression
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_batch import UsageColumns

_ONE = Decimal(1)

# The same small numbers come again and again; a hit costs an eighth of parsing.
_parse = lru_cache(maxsize=1 << 16)(parse_decimal)


@dataclass(frozen=True, slots=True)
class MeterReading:
    """The values of one meter: `values[i]` was measured in the event with index `rows[i]`."""

    meter: Meter
    rows: list[int]
    values: list[Decimal]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The readings of all meters, without any row of an event in `problems` (index -> first problem)."""

    readings: list[MeterReading]
    problems: dict[int, Violation]


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
    numbers: dict[str, _Numbers] = {
        event_type: _Numbers(rows, events.properties) for event_type, rows in rows_by_type.items()
    }
    for meter in meters:
        of_type = numbers[meter.event_type]
        found = of_type.of(_filtered(of_type.rows, events.properties, meter))
        if found.rows:
            readings.append(_read(meter, found, problems))
    return Measurement([_without(reading, problems) for reading in readings] if problems else readings, problems)


class _Numbers:
    """Properties of some rows as numbers; what several meters read is parsed once."""

    def __init__(self, rows: list[int], properties: list[dict[str, str]]) -> None:
        self.rows = rows
        self.properties = properties
        self._columns: dict[str, list[Decimal]] = {}

    def of(self, rows: list[int]) -> _Numbers:
        """Those of a meter's own rows."""
        return self if rows is self.rows else _Numbers(rows, self.properties)

    def column(self, name: str) -> list[Decimal]:
        """
        :raises KeyError: if a row lacks the property
        :raises DecimalRejected: if it is no number
        """
        found = self._columns.get(name)
        if found is None:
            texts = [self.properties[row][name] for row in self.rows]
            found = self._columns[name] = list(map(_parse, texts))
        return found


def _filtered(rows: list[int], properties: list[dict[str, str]], meter: Meter) -> list[int]:
    for item in meter.filters:
        rows = [row for row in rows if properties[row].get(item.property) == item.value]
    return rows


def _read(meter: Meter, numbers: _Numbers, problems: dict[int, Violation]) -> MeterReading:
    expression, rows = meter.compiled, numbers.rows
    if expression is None:
        return MeterReading(meter, rows, [_ONE] * len(rows))
    try:
        columns = {name: numbers.column(name) for name in expression.properties}
        return MeterReading(meter, rows, expression.evaluate_columns(columns, len(rows)))
    except (KeyError, DecimalRejected, EvaluationFailed):
        return _read_with_problems(meter, expression, rows, numbers.properties, problems)


def _read_with_problems(
    meter: Meter,
    expression: Expression,
    rows: list[int],
    properties: list[dict[str, str]],
    problems: dict[int, Violation],
) -> MeterReading:
    """The slow way, event by event, taken by batches in which at least one event has a problem."""
    read_rows, values = [], []
    for row in rows:
        outcome = _read_one(meter, expression, properties[row])
        if isinstance(outcome, Violation):
            problems.setdefault(row, outcome)
        else:
            read_rows.append(row)
            values.append(outcome)
    return MeterReading(meter, read_rows, values)


def _read_one(meter: Meter, expression: Expression, properties: dict[str, str]) -> Decimal | Violation:
    columns = {}
    for name in sorted(expression.properties):
        field = f"properties.{name}"
        if name not in properties:
            return Violation(field, "MISSING_PROPERTY", f"meter {meter.meter_id} needs it")
        try:
            columns[name] = [_parse(properties[name])]
        except DecimalRejected as error:
            return Violation(field, error.reason, str(error))
    try:
        return expression.evaluate_columns(columns, 1)[0]
    except EvaluationFailed as error:
        return Violation("properties", error.reasons[0], f"meter {meter.meter_id} has no value for it")


def _without(reading: MeterReading, problems: dict[int, Violation]) -> MeterReading:
    kept = [(row, value) for row, value in zip(reading.rows, reading.values, strict=True) if row not in problems]
    return MeterReading(reading.meter, [row for row, _ in kept], [value for _, value in kept])
