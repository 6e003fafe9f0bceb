"""A selection of usage as the first part of a statement (see `usage_sql`)."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

import orjson

from libs.periods import Period
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.store.measured_events import DIMENSIONS
from services.ingest.store.usage_sql import (
    EVENT_STATE,
    MEASURED_EVENT,
    NO_DIMENSIONS,
    STATE,
    WINDOW_NS,
    Arguments,
    bucket_of_ns,
    is_windowed,
    usage_row,
)
from services.ingest.usecases.usage_question import UsageQuestion, UsageSelection
from services.ingest.usecases.window_cover import FIRST_INSTANT

_LOG = "events"
_WINDOWS = "usage_windows"


def with_usage_rows(selection: UsageSelection, meter: Meter, arguments: Arguments) -> str:
    """WITH ... usage_row, for one statement, so that windows and log are of the same moment."""
    arguments.put(selection.question.tenant_id)
    arguments.put(meter.meter_id)
    part = _states(selection, arguments) if is_windowed(meter) else _measured(selection, meter, arguments)
    return f"WITH part AS ({part}), grouped AS ({_grouped(selection, meter, arguments)}), {usage_row(meter, arguments)}"


def _states(selection: UsageSelection, arguments: Arguments) -> str:
    """Windows, and events like windows."""
    windows, question = selection.cover.windows, selection.question
    branches = []
    if windows is not None:
        starts = arguments.put([row.start for row in selection.rows], "timestamptz[]")
        cut = f"AND window_start <> {arguments.put(selection.cover.cut)}" if selection.cover.cut else ""
        dimensions = NO_DIMENSIONS
        if question.group_by:
            dropped = selection.dropped
            dimensions = f"dimensions - {arguments.put(list(dropped), 'text[]')}" if dropped else "dimensions"
        first, end = arguments.put(windows.start), arguments.put(windows.end)
        branches.append(f"""
            SELECT {_index(selection, "window_start", starts)} AS index,
                {bucket_of_ns(selection.grid, WINDOW_NS, arguments)} AS bucket,
                {_customer(question)} AS customer_id, {dimensions} AS dimensions, {STATE}
            FROM {_WINDOWS}
            WHERE tenant_id = $1 AND meter_id = $2 AND event_count > 0 AND window_start >= {first}
                AND window_start < {end} {cut} {_only(question, "dimensions", arguments)}""")
    branches += [_events(selection, edge, EVENT_STATE, arguments) for edge in selection.cover.edges]
    return " UNION ALL ".join(branches)


def _measured(selection: UsageSelection, meter: Meter, arguments: Arguments) -> str:
    question = selection.question
    time = Period(FIRST_INSTANT if meter.carry_over else question.start, question.end)
    return _events(selection, time, MEASURED_EVENT, arguments)


def _events(selection: UsageSelection, time: Period, payload: str, arguments: Arguments) -> str:
    question = selection.question
    starts = arguments.put([to_ns(row.start) for row in selection.rows], "bigint[]")
    dimensions = NO_DIMENSIONS
    if question.group_by:
        dimensions = DIMENSIONS.format(arguments.put(list(question.group_by), "text[]"))
    return f"""
        SELECT {_index(selection, "event_time_ns", starts)} AS index,
            {bucket_of_ns(selection.grid, "event_time_ns", arguments)} AS bucket,
            {_customer(question)} AS customer_id, {dimensions} AS dimensions, {payload}
        FROM {_LOG}
        WHERE tenant_id = $1 AND measured ? $2 AND event_time_ns >= {arguments.put(to_ns(time.start))}
            AND event_time_ns < {arguments.put(to_ns(time.end))} {_only(question, "properties", arguments)}"""


def _index(selection: UsageSelection, time: str, starts: str) -> str:
    """The number of the row; of what lies before the first one -1."""
    return f"width_bucket({time}, {starts}) - 1"


def _customer(question: UsageQuestion) -> str:
    return f"""{"customer_id" if question.by_customer else "''::text"} COLLATE "C\""""


def _only(question: UsageQuestion, dimensions: str, arguments: Arguments) -> str:
    """What is asked for, of all that the meter has."""
    found = f" AND customer_id = {arguments.put(question.customer_id)}" if question.customer_id else ""
    if question.filters:
        wanted = orjson.dumps({item.property: item.value for item in question.filters}).decode()
        found += f" AND {dimensions} @> {arguments.put(wanted, 'text')}::jsonb"
    return found


def _grouped(selection: UsageSelection, meter: Meter, arguments: Arguments) -> str:
    """All groups, or the chosen ones, and perhaps the others as one."""
    own = (
        "value, event_count, latest_ns, latest_position" if is_windowed(meter) else "measured, event_time_ns, position"
    )
    if selection.chosen is None:
        return f"SELECT 0 AS scope, index, bucket, false AS others, customer_id, dimensions, {own} FROM part"
    customers = arguments.put([customer_id for customer_id, _ in selection.chosen], "text[]")
    texts = arguments.put([text for _, text in selection.chosen], "text[]")
    is_other = "chosen.customer_id IS NULL"
    return f"""
        SELECT 0 AS scope, index, bucket, {is_other} AS others, coalesce(chosen.customer_id, '') AS customer_id,
            CASE WHEN {is_other} THEN {NO_DIMENSIONS} ELSE dimensions END AS dimensions, {own}
        FROM part {"LEFT" if selection.question.include_others else "INNER"} JOIN (
            SELECT customer_id COLLATE "C" AS customer_id, dimensions_text COLLATE "C" AS dimensions_text
            FROM unnest({customers}, {texts}) AS given (customer_id, dimensions_text)
        ) AS chosen ON chosen.customer_id = part.customer_id AND chosen.dimensions_text = part.dimensions::text"""
