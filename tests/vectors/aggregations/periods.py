"""Vectors about the events of a period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date
from decimal import Decimal
from typing import Any

from libs.money import RoundingFunction, parse_decimal, plain, round_exact
from libs.periods import find_zone, local_midnight
from services.ingest.domain.aggregations import (
    AggregationPeriod,
    BucketGrid,
    EventColumns,
    bucket_values,
    evaluate,
    evaluate_states,
    finish,
)
from services.ingest.domain.aggregations.period import to_datetime
from services.ingest.domain.door import to_ns
from services.ingest.domain.measuring import MeterReading, measure
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.meter_options import BucketLength
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.domain.usage_windows import WindowSums
from tests.vectors.aggregations.events import Event, time_ns, usage_columns, without_duplicates
from tests.vectors.aggregations.meters import meter_of
from tests.vectors.contradictions import unsupported

Vector = Mapping[str, Any]
Result = dict[str, Any]
Group = tuple[str | None, ...]

# As many decimals as a source may have written down; what comes through the door has at most 12.
_WIDE_SCALE = 36
_TIMED = frozenset({Aggregation.LATEST, Aggregation.WEIGHTED_SUM})


@dataclass(frozen=True, slots=True)
class Case:
    """What a vector is about: its meter, its period, and what the meter measured, by group."""

    meter: Meter
    period: AggregationPeriod
    usage: UsageColumns
    reading: MeterReading

    def groups(self) -> dict[Group, tuple[EventColumns, EventColumns]]:
        """The events before the period and in it; without dimensions there is always a group."""
        rows: dict[Group, list[int]] = defaultdict(list)
        for place, row in enumerate(self.reading.rows):
            rows[tuple(map(self.usage.properties[row].get, self.meter.group_by))].append(place)
        if not self.meter.group_by:
            rows.setdefault((), [])
        whole, period = self.columns(), self.period
        return {group: whole.take(places).split(period.start_ns, period.end_ns) for group, places in rows.items()}

    def columns(self) -> EventColumns:
        reading = self.reading
        times_ns = [self.usage.times_ns[row] for row in reading.rows]
        return EventColumns(times_ns, reading.rows, reading.values, reading.texts, reading.operations)


def case_of(vector: Vector) -> Case:
    """
    :raises Unsupported: if the vector depends on something that contradicts this system
    """
    dedupe = vector["convention"].get("dedupe", "id_first_wins")
    case = _case(vector, without_duplicates(vector["input"]["events"], dedupe, last=False))
    if dedupe.endswith("last_wins"):
        other = _case(vector, without_duplicates(vector["input"]["events"], dedupe, last=True))
        timed = vector["kind"] == "windows"
        if _what_counts(case, timed=timed) != _what_counts(other, timed=timed):
            unsupported("last_write_wins", dedupe)
    return case


def _is_selected(event: Event, given: Mapping[str, Any]) -> bool:
    ends = [time_ns(given["period"]["end"])] + ([time_ns(given["as_of"])] if given.get("as_of") else [])
    at = time_ns(event["timestamp"])
    return at < min(ends) and (bool(given.get("carry_over")) or at >= time_ns(given["period"]["start"]))


def _case(vector: Vector, events: Sequence[Event]) -> Case:
    given, meter = vector["input"], meter_of(vector)
    usage = usage_columns([event for event in events if _is_selected(event, given)])
    period = AggregationPeriod(
        time_ns(given["period"]["start"]),
        time_ns(given["period"]["end"]),
        find_zone(given["period"].get("timezone") or "UTC"),
        given.get("period_days"),
    )
    return Case(meter, period, usage, _read(usage, meter))


def _read(usage: UsageColumns, meter: Meter) -> MeterReading:
    measurement = measure(usage, [meter])
    refused = {row for row, problem in measurement.problems.items() if problem.reason != "TOO_PRECISE"}
    if refused:
        unsupported("bad_numbers_ignored", ", ".join(usage.event_ids[row] for row in sorted(refused)))
    if measurement.problems:
        return _read_wide(usage, meter)
    return measurement.readings[0] if measurement.readings else MeterReading(meter, [], [])


def _read_wide(usage: UsageColumns, meter: Meter) -> MeterReading:
    """Only the door limits decimals; the functions behind it take more."""
    field = meter.expression
    zeros = [{name: "0" if name == field else text for name, text in row.items()} for row in usage.properties]
    (reading,) = measure(replace(usage, properties=zeros), [meter]).readings
    texts = [usage.properties[row][field] for row in reading.rows]
    return replace(reading, values=[parse_decimal(text, max_scale=_WIDE_SCALE) for text in texts])


def _what_counts(case: Case, *, timed: bool) -> list[Any]:
    """Everything that the result of a case depends on."""
    meter, columns = case.meter, case.columns()
    groups = [tuple(map(case.usage.properties[row].get, meter.group_by)) for row in case.reading.rows]
    count = len(columns)
    values = [Decimal(1)] * count if meter.event_aggregation is Aggregation.COUNT else columns.values
    texts = columns.texts or [""] * count
    timed |= meter.aggregation in _TIMED or meter.buckets is not None or meter.prorated
    if timed or meter.operation_property:
        operations: Sequence[str] = columns.operations or [""] * count
        return list(zip(groups, values, texts, operations, columns.times_ns, strict=True))
    return sorted(zip(map(repr, groups), values, texts, strict=True))


def aggregate(vector: Vector) -> Result:
    case = case_of(vector)
    results = {group: _quantity(case, *parts) for group, parts in case.groups().items()}
    if case.meter.mergeable:
        _check_windows(case, {group: result["value"] for group, result in results.items()})
    return _grouped(case.meter, results)


def weighted_sum(vector: Vector) -> Result:
    case = case_of(vector)
    initial = Decimal(vector["input"].get("initial_value") or 0)
    return _grouped(
        case.meter, {group: _quantity(case, *parts, initial=initial) for group, parts in case.groups().items()}
    )


def prorated_unique_count(vector: Vector) -> Result:
    return aggregate(vector)


def prorated_sum(vector: Vector) -> Result:
    case = case_of(vector)
    return _grouped(case.meter, {group: _prorated(case, *parts) for group, parts in case.groups().items()})


def _prorated(case: Case, carried: EventColumns, events: EventColumns) -> Result:
    each = replace(case.meter, rounding=None)
    parts = [evaluate(each, events.take([row]), case.period) for row in range(len(events))]
    in_full = replace(case.meter, prorated=False, rounding=None)
    return _quantity(case, carried, events) | {
        "full_units": _plain(evaluate(in_full, events, case.period, carried=carried)),
        "per_event": [plain(round_exact(part or Decimal(0), RoundingFunction.ROUND, 3)) for part in parts],
    }


def windows(vector: Vector) -> Result:
    """The windows that have events, whole ones: the period is widened to the local days that it touches."""
    case, given = case_of(vector), vector["input"]
    zone = find_zone(given["window_timezone"])
    days = replace(case.period, zone=zone).days
    first, last = (to_ns(local_midnight(date.fromordinal(day), zone)) for day in (days.start, days.stop))
    grid = BucketGrid.of(AggregationPeriod(first, last), BucketLength(given["window"]), zone)
    ((_, events),) = case.groups().values()
    found = bucket_values(case.meter.aggregation, events, grid)
    parts = []
    for index, value in found.items():
        start_ns, end_ns = grid.bounds(index)
        quantity = _plain(finish(case.meter, value))
        parts.append({"start": _rfc3339(start_ns), "end": _rfc3339(end_ns), "value": quantity})
    return {"windows": parts}


def _quantity(case: Case, carried: EventColumns, events: EventColumns, initial: Decimal = Decimal(0)) -> Result:
    meter = case.meter
    value = evaluate(meter, events, case.period, carried=carried, initial_value=initial)
    result: Result = {"value": _plain(value), "events_count": len(events) + len(carried)}
    if meter.buckets is not None:
        grid = BucketGrid.of(case.period, meter.buckets.length, find_zone(meter.buckets.time_zone))
        parts = bucket_values(meter.buckets.aggregation, events, grid)
        result["buckets"] = [_plain(finish(replace(meter, rounding=None), part)) for part in parts.values()]
    return result


def _grouped(meter: Meter, results: Mapping[Group, Result]) -> Result:
    if not meter.group_by:
        return results[()]
    return {
        "groups": [
            {"group": dict(zip(meter.group_by, group, strict=True)), **result} for group, result in results.items()
        ]
    }


def _check_windows(case: Case, values: Mapping[Group, str | None]) -> None:
    """The states of usage windows, as a recorder makes them, have to give the same."""
    recorder, usage = WindowSums(), case.usage
    recorder.add(usage, [case.reading], range(len(usage)), "", range(len(usage)))
    states = defaultdict(list)
    for change in recorder.changes():
        states[change.dimensions].append(change.state)
    found = sorted(str(_plain(evaluate_states(case.meter, parts))) for parts in states.values())
    wanted = sorted(map(str, values.values())) if len(case.reading.rows) else []
    assert found == wanted, f"windows give {found}, events {wanted}"


def _rfc3339(at_ns: int) -> str:
    return to_datetime(at_ns).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
