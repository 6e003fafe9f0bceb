"""What meters measured in single events, as the log has it (see `RecordingBatch.measured_texts`)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import asyncpg

from services.ingest.domain.aggregations import EventColumns, Operation
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.domain.recording import POSITIONS_PER_BATCH

DIMENSIONS = """
    (SELECT coalesce(jsonb_object_agg(key, value), jsonb_build_object())
        FROM jsonb_each(properties) WHERE key = ANY ({}))
"""
"""The dimensions that an event has, of those in an array of names."""
POSITION = f"batch_id * {POSITIONS_PER_BATCH} + ordinal"
MEASURED = "measured ->> $2 AS measured"
"""By the meter that is the second argument of the statement."""
_SUM = "sum(value)"
MERGED: dict[Aggregation, str] = {
    Aggregation.COUNT: _SUM,
    Aggregation.SUM: _SUM,
    Aggregation.AVG: _SUM,
    Aggregation.MIN: "min(value)",
    Aggregation.MAX: "max(value)",
    Aggregation.LATEST: "(array_agg(value ORDER BY latest_ns DESC, latest_position DESC))[1]",
}
"""The merge of the states of rows that have value, latest_ns and latest_position."""

_OPERATIONS = {"+": Operation.ADD, "-": Operation.REMOVE}


def event_columns(meter: Meter, rows: Sequence[asyncpg.Record]) -> EventColumns:
    """Rows with event_time_ns, position and measured as the columns that the meter evaluates."""
    times, positions = [row["event_time_ns"] for row in rows], [row["position"] for row in rows]
    measured: list[str] = [row["measured"] for row in rows]
    if meter.event_aggregation is not Aggregation.UNIQUE_COUNT:
        return EventColumns(times, positions, values=list(map(Decimal, measured)))
    operations = [_OPERATIONS[text[0]] for text in measured] if meter.operation_property else ()
    return EventColumns(times, positions, texts=[text[1:] for text in measured], operations=operations)
