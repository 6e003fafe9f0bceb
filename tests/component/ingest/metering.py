"""One meter of each kind, and events to measure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from libs.money import RoundingFunction
from services.ingest.domain.aggregations import EventColumns, Operation
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation, BucketLength, Buckets, LevelUnit, Rounding
from tests.component.ingest.builders import NOON, Event

MORNING = datetime(2026, 3, 28, 12, 7, 30, 250_000, tzinfo=UTC)
_COUNT = Aggregation.COUNT


def _meter(meter_id: str, aggregation: Aggregation, expression: str = "size", **options: object) -> Meter:
    return Meter(meter_id, "", "job", aggregation, expression, created_at=NOON, **options)  # type: ignore[arg-type]


METERS = (
    _meter("count", _COUNT, ""),
    _meter("sum", Aggregation.SUM),
    _meter("sum-rounded", Aggregation.SUM, rounding=Rounding(RoundingFunction.CEIL, -1), multiplier=Decimal("0.5")),
    _meter("min", Aggregation.MIN),
    _meter("max", Aggregation.MAX),
    _meter("avg", Aggregation.AVG),
    _meter("latest", Aggregation.LATEST),
    _meter("latest-of-region", Aggregation.LATEST, group_by=("region",)),
    _meter("users", Aggregation.UNIQUE_COUNT, "user"),
    _meter("seats", Aggregation.UNIQUE_COUNT, "user", operation_property="change", carry_over=True),
    _meter("level", Aggregation.WEIGHTED_SUM, carry_over=True, level_unit=LevelUnit.HOUR),
    _meter("p90", Aggregation.PERCENTILE, percentile=Decimal(90)),
    _meter("peaks", Aggregation.SUM, buckets=Buckets(BucketLength.HOUR, Aggregation.MAX, "Europe/Berlin")),
    _meter("prorated", Aggregation.SUM, prorated=True),
)
BY_ID = {meter.meter_id: meter for meter in METERS}


def jobs(seed: int, count: int) -> list[Event]:
    """Events of two customers over three days, not aligned to anything; some at the same instant."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        properties = {
            "size": f"{dice.randrange(-500, 2_000)}.{dice.randrange(10)}",
            "user": f"{dice.choice('+-x')}user-{dice.randrange(8)}",
            "change": dice.choice(["add", "add", "remove"]),
        }
        if dice.random() < 0.7:
            properties["region"] = dice.choice(["eu", "us"])
        at = MORNING + timedelta(minutes=dice.randrange(-1_440, 2_880), microseconds=dice.choice([0, 0, 17]))
        made.append(Event(f"e{seed}-{number}", properties, f"cust-{dice.randrange(2)}", at, event_type="job"))
    return made


def measured(meter: Meter, events: Sequence[tuple[int, Event]]) -> EventColumns:
    """What a meter of `METERS` measures in (position, event), written down once more by hand."""
    times, positions = [to_ns(event.at) for _, event in events], [position for position, _ in events]
    if meter.event_aggregation is Aggregation.UNIQUE_COUNT:
        operations = [Operation(event.properties["change"]) for _, event in events] if meter.operation_property else ()
        return EventColumns(
            times, positions, texts=[event.properties["user"] for _, event in events], operations=operations
        )
    ones = meter.event_aggregation is _COUNT
    return EventColumns(
        times, positions, values=[Decimal(1) if ones else Decimal(event.properties["size"]) for _, event in events]
    )
