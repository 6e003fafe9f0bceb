"""What meters would measure in events that nobody has sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from libs.errors import Violation
from libs.periods import window_start
from services.ingest.domain.measuring import Measurement
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_batch import UsageColumns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MeasuredValue(NamedTuple):
    """What one meter would measure, and the values of those of its dimensions that the event has."""

    meter: Meter
    value: Decimal
    dimensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EventMeasurement:
    """What all meters would measure, by meter id, and the start of the usage window; or why nothing would count."""

    values: Sequence[MeasuredValue] = ()
    window_start: datetime | None = None
    problem: Violation | None = None


def measurements_of(
    events: UsageColumns, measurement: Measurement, problems: Mapping[int, Violation]
) -> list[EventMeasurement]:
    """Return one per event, in order. `problems` has those of the door, too."""
    values: list[list[MeasuredValue]] = [[] for _ in range(len(events))]
    for reading in sorted(measurement.readings, key=lambda reading: reading.meter.meter_id):
        for row, value in zip(reading.rows, reading.values, strict=True):
            properties = events.properties[row]
            dimensions = {name: properties[name] for name in reading.meter.group_by if name in properties}
            values[row].append(MeasuredValue(reading.meter, value, dimensions))
    return [
        EventMeasurement(problem=problems[row])
        if row in problems
        else EventMeasurement(values[row], window_start(_EPOCH + timedelta(microseconds=time_ns // 1_000)))
        for row, time_ns in enumerate(events.times_ns)
    ]
