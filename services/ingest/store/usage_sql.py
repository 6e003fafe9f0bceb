"""Statements that put together what meters measured, by groups; exactly what `domain.aggregations` says.

They are written as a chain of common table expressions: `part` has windows and events, `grouped` the same by the groups
that are asked for, `usage_row` has what they come to. Only the columns of GROUP that differ from row to row are carried
along: what all rows have in common takes its time too, a million times.
"""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.money import QUANTITY_CONTEXT, QUOTIENT_SCALE
from services.ingest.domain.aggregations import BucketGrid
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import WINDOWED, Aggregation
from services.ingest.store.measured_events import MEASURED, MERGED, POSITION

NO_DIMENSIONS = "jsonb_build_object()"
GROUP = {
    "scope": "0",
    "index": "0",
    "bucket": "0",
    "others": "false",
    "customer_id": "''::text COLLATE \"C\"",
}
"""What there may be a row for beside dimensions, and what it is where all rows are of the same."""
USAGE_COLUMNS = "scope, index, bucket, others, customer_id, dimensions_text, value, event_count"
"""Of `usage_row`, as far as `parts_of` wants them; `others` and `dimensions_text` are what `UsagePart` says."""
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


def bucket_of_ns(grid: BucketGrid, time_ns: str, arguments: Arguments) -> str:
    """The number of the bucket that holds a time."""
    if grid.length_ns:
        return f"{time_ns} / {arguments.put(grid.length_ns, 'bigint')}"
    return f"width_bucket({time_ns}, {arguments.put(list(grid.cuts_ns), 'bigint[]')})"


def usage_row(meter: Meter, group: Sequence[str], arguments: Arguments) -> str:
    """The expressions from `grouped` to `usage_row`, for what the meter does with its events. `group` has the columns
    of GROUP that `grouped` has."""
    if is_windowed(meter):
        result = _merged(meter.event_aggregation, group)
    elif meter.event_aggregation is Aggregation.UNIQUE_COUNT:
        result = _unique(group, operations=bool(meter.operation_property), carried=meter.carry_over)
    elif meter.percentile is not None and meter.buckets is None:
        result = _percentile(meter.percentile, group, arguments)
    else:
        raise ValueError(f"meter {meter.meter_id} cannot be put together by the database")
    columns = ", ".join(name if name in group else f"{common} AS {name}" for name, common in GROUP.items())
    text = f"""{"dimensions" if "dimensions" in group else NO_DIMENSIONS}::text COLLATE "C\""""
    if "others" in group:
        text = f"CASE WHEN others THEN '' ELSE {text} END"
    return f"""{result}, usage_row AS (
    SELECT {columns}, {text} AS dimensions_text, value, event_count FROM result WHERE event_count > 0
)"""


def greatest_first(meter: Meter) -> str:
    """An order of `usage_row` by quantity. A quotient is compared to the digits that are told of it."""
    by_average = f"div(value * 1e{QUOTIENT_SCALE}, event_count)"
    return by_average if meter.aggregation is Aggregation.AVG else "value"


def _merged(aggregation: Aggregation, group: Sequence[str]) -> str:
    return f"""result AS (
    SELECT {_first(group)} {MERGED[aggregation]} AS value, sum(event_count)::bigint AS event_count
    FROM grouped WHERE event_count > 0 {_by(group)}
)"""


def _unique(group: Sequence[str], *, operations: bool, carried: bool) -> str:
    """Once per text and group; with operations by the latest one of each, by time and then position."""
    text, present = "measured", "1"
    if operations:
        text = "substr(measured, 2)"
        present = "(max(ARRAY[event_time_ns, position, CASE WHEN left(measured, 1) = '+' THEN 1 ELSE 0 END]))[3]"
    # Carried over: what each row adds to and takes from the rows before it.
    change = "present"
    if carried:
        others = ", ".join([*(name for name in group if name != "index"), "text"])
        change = f"present - lag(present, 1, present - present) OVER (PARTITION BY {others} ORDER BY index)"
    return f"""by_text AS (
    SELECT {_first(group)} {text} AS text, {present} AS present, count(*) AS event_count
    FROM grouped {_by([*group, text])}
), change AS (
    SELECT {_first(group)} {change} AS value, event_count FROM by_text
), result AS (
    SELECT {_first(group)} sum(value)::numeric AS value, sum(event_count)::bigint AS event_count
    FROM change {_by(group)}
)"""


def _percentile(percent: Decimal, group: Sequence[str], arguments: Arguments) -> str:
    """Nearest rank, of exact numbers; `percentile_disc` would take the percentage for a double.

    Equal texts are put together before anything is sorted; equal numbers with different texts are neighbours.
    """
    rank = f"ceil({arguments.put(QUANTITY_CONTEXT.scaleb(percent, -2), 'numeric')} * event_count)"
    within = f"PARTITION BY {', '.join(group)}" if group else ""
    return f"""by_value AS (
    SELECT {_first(group)} measured, count(*) AS times FROM grouped {_by([*group, "measured"])}
), total AS (
    SELECT {_first(group)} sum(times)::bigint AS event_count FROM by_value {_by(group)}
), running AS (
    SELECT {_first(group)} measured::numeric AS value, times,
        sum(times) OVER ({within} ORDER BY measured::numeric ROWS UNBOUNDED PRECEDING) AS through
    FROM by_value
), result AS (
    SELECT {_first(group)} value, event_count
    FROM running {f"JOIN total USING ({', '.join(group)})" if group else "CROSS JOIN total"}
    WHERE through - times < {rank} AND {rank} <= through
)"""


def _first(group: Sequence[str]) -> str:
    return "".join(f"{name}, " for name in group)


def _by(group: Sequence[str]) -> str:
    return f"GROUP BY {', '.join(group)}" if group else ""
