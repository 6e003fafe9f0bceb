"""Statements that put together what meters measured, by groups; exactly what `domain.aggregations` says.

They are written as a chain of common table expressions: `part` has windows and events, `grouped` the same by the groups
that are asked for, `usage_row` has what they come to. The columns of GROUP are in all of them.
"""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from decimal import Decimal

from libs.money import QUANTITY_CONTEXT
from services.ingest.domain.aggregations import BucketGrid
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import WINDOWED, Aggregation
from services.ingest.domain.rounding import QUOTIENT_SCALE
from services.ingest.store.measured_events import MEASURED, MERGED, POSITION

GROUP = "scope, index, bucket, others, customer_id, dimensions"
USAGE_COLUMNS = f"{GROUP}, dimensions_text, value, event_count"
"""Of `usage_row`. `others` and `dimensions_text` are what `UsagePart` says."""
STATE = "value, event_count, latest_ns, latest_position"
"""What `grouped` has beside GROUP if states are merged;"""
EVENT = "measured, event_time_ns, position"
"""and otherwise."""
EVENT_STATE = (
    f"(measured ->> $2)::numeric AS value, 1 AS event_count, event_time_ns AS latest_ns, {POSITION} AS latest_position"
)
"""STATE of an event in the log, by the meter that is the second argument of the statement."""
MEASURED_EVENT = f"{MEASURED}, event_time_ns, {POSITION} AS position"
"""EVENT of it."""
WINDOW_NS = "(extract(epoch FROM window_start) * 1000000000)::bigint"
NO_DIMENSIONS = "jsonb_build_object()"


class Arguments:
    """The arguments of a statement, in the order of their numbers."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)

    def put(self, value: object, kind: str = "") -> str:
        """Add one, and return how the statement names it."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}" if kind else f"${len(self.values)}"


def is_windowed(meter: Meter) -> bool:
    """Whether states of windows, and of events like them, can be merged to what is needed of the meter."""
    return meter.event_aggregation in WINDOWED


def bucket_of_ns(grid: BucketGrid | None, time_ns: str, arguments: Arguments) -> str:
    """The number of the bucket that holds a time; 0 without buckets."""
    if grid is None:
        return "0"
    if grid.length_ns:
        return f"{time_ns} / {arguments.put(grid.length_ns, 'bigint')}"
    return f"width_bucket({time_ns}, {arguments.put(list(grid.cuts_ns), 'bigint[]')})"


def usage_row(meter: Meter, arguments: Arguments) -> str:
    """The expressions from `grouped` to `usage_row`, for what the meter does with its events."""
    if is_windowed(meter):
        result = _merged(meter.event_aggregation)
    elif meter.event_aggregation is Aggregation.UNIQUE_COUNT:
        result = _unique(operations=bool(meter.operation_property), carried=meter.carry_over)
    elif meter.percentile is not None and meter.buckets is None:
        result = _percentile(meter.percentile, arguments)
    else:
        raise ValueError(f"meter {meter.meter_id} cannot be put together by the database")
    return f"""{result}, usage_row AS (
    SELECT {GROUP}, CASE WHEN others THEN '' ELSE dimensions::text END COLLATE "C" AS dimensions_text,
        value, event_count
    FROM result
)"""


def greatest_first(meter: Meter) -> str:
    """An order of `usage_row` by quantity. A quotient is compared to the digits that are told of it."""
    by_average = f"div(value * 1e{QUOTIENT_SCALE}, event_count)"
    return by_average if meter.aggregation is Aggregation.AVG else "value"


def _merged(aggregation: Aggregation) -> str:
    return f"""result AS (
    SELECT {GROUP}, {MERGED[aggregation]} AS value, sum(event_count)::bigint AS event_count
    FROM grouped WHERE event_count > 0 GROUP BY {GROUP}
)"""


def _unique(*, operations: bool, carried: bool) -> str:
    """Once per text and group; with operations by the latest one of each, by time and then position."""
    text, present = "measured", "1"
    if operations:
        text = "substr(measured, 2)"
        present = "(max(ARRAY[event_time_ns, position, CASE WHEN left(measured, 1) = '+' THEN 1 ELSE 0 END]))[3]"
    # Carried over: what each row adds to and takes from the rows before it.
    change = "present"
    if carried:
        change = (
            "present - lag(present, 1, present - present)"
            " OVER (PARTITION BY scope, others, customer_id, dimensions, text ORDER BY index)"
        )
    return f"""by_text AS (
    SELECT {GROUP}, {text} AS text, {present} AS present, count(*) AS event_count
    FROM grouped GROUP BY {GROUP}, {text}
), change AS (
    SELECT {GROUP}, {change} AS value, event_count FROM by_text
), result AS (
    SELECT {GROUP}, sum(value)::numeric AS value, sum(event_count)::bigint AS event_count FROM change GROUP BY {GROUP}
)"""


def _percentile(percent: Decimal, arguments: Arguments) -> str:
    """Nearest rank, of exact numbers; `percentile_disc` would take the percentage for a double."""
    share = arguments.put(QUANTITY_CONTEXT.scaleb(percent, -2), "numeric")
    return f"""ranked AS (
    SELECT {GROUP}, measured::numeric AS value,
        row_number() OVER (PARTITION BY {GROUP} ORDER BY measured::numeric) AS rank,
        count(*) OVER (PARTITION BY {GROUP}) AS event_count
    FROM grouped
), result AS (
    SELECT {GROUP}, value, event_count FROM ranked WHERE rank = ceil({share} * event_count)
)"""
