"""A selection of usage as the first part of a statement (see `usage_sql`)."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from libs.periods import Period
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.store.measured_events import DIMENSIONS
from services.ingest.store.measured_log import MEASURED_LOG
from services.ingest.store.usage_sql import (
    EVENT,
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

_WINDOWS = "usage_windows"
_CUSTOMER = 'customer_id COLLATE "C"'


def with_usage_rows(selection: UsageSelection, meter: Meter, arguments: Arguments) -> str:
    """WITH ... usage_row, for one statement, so that windows and log are of the same moment."""
    arguments.put(selection.question.tenant_id)
    arguments.put(meter.meter_id)
    group = _group(selection, meter)
    part = _states(selection, group, arguments) if is_windowed(meter) else _measured(selection, meter, group, arguments)
    grouped = _grouped(selection, group, STATE if is_windowed(meter) else EVENT, arguments)
    return f"WITH part AS ({part}), grouped AS ({grouped}), {usage_row(meter, group, arguments)}"


def _group(selection: UsageSelection, meter: Meter) -> list[str]:
    """The columns of GROUP that differ from row to row."""
    question = selection.question
    asked = {
        "index": len(selection.rows) > 1 or meter.carry_over,
        "bucket": selection.grid is not None,
        "others": selection.chosen is not None and question.include_others,
        "customer_id": question.by_customer,
        "dimensions": bool(question.group_by),
    }
    return [name for name, differs in asked.items() if differs]


def _columns(group: Sequence[str], expressions: Mapping[str, str]) -> str:
    return "".join(f"{expressions[name]} AS {name}, " for name in group if name in expressions)


def _states(selection: UsageSelection, group: Sequence[str], arguments: Arguments) -> str:
    """Windows, and events like windows."""
    windows, question = selection.cover.windows, selection.question
    branches = []
    if windows is not None:
        expressions = {"customer_id": _CUSTOMER}
        if "index" in group:
            starts = arguments.put([row.start for row in selection.rows], "timestamptz[]")
            expressions["index"] = _index("window_start", starts)
        if selection.grid is not None:
            expressions["bucket"] = bucket_of_ns(selection.grid, WINDOW_NS, arguments)
        if question.group_by:
            dropped = selection.dropped
            expressions["dimensions"] = (
                f"dimensions - {arguments.put(list(dropped), 'text[]')}" if dropped else "dimensions"
            )
        cut = f"AND window_start <> {arguments.put(selection.cover.cut)}" if selection.cover.cut else ""
        first, end = arguments.put(windows.start), arguments.put(windows.end)
        branches.append(f"""
            SELECT {_columns(group, expressions)} {STATE} FROM {_WINDOWS}
            WHERE tenant_id = $1 AND meter_id = $2 AND event_count > 0 AND window_start >= {first}
                AND window_start < {end} {cut} {_only(question, "dimensions", arguments)}""")
    branches += [_events(selection, group, edge, EVENT_STATE, arguments) for edge in selection.cover.edges]
    return " UNION ALL ".join(branches)


def _measured(selection: UsageSelection, meter: Meter, group: Sequence[str], arguments: Arguments) -> str:
    question = selection.question
    time = Period(FIRST_INSTANT if meter.carry_over else question.start, question.end)
    return _events(selection, group, time, MEASURED_EVENT, arguments)


def _events(selection: UsageSelection, group: Sequence[str], time: Period, payload: str, arguments: Arguments) -> str:
    question = selection.question
    expressions = {"customer_id": _CUSTOMER}
    if "index" in group:
        starts = arguments.put([to_ns(row.start) for row in selection.rows], "bigint[]")
        expressions["index"] = _index("event_time_ns", starts)
    if selection.grid is not None:
        expressions["bucket"] = bucket_of_ns(selection.grid, "event_time_ns", arguments)
    if question.group_by:
        expressions["dimensions"] = DIMENSIONS.format(arguments.put(list(question.group_by), "text[]"))
    return f"""
        SELECT {_columns(group, expressions)} {payload} FROM {MEASURED_LOG} AS logged
        WHERE tenant_id = $1 AND measured ? $2 AND event_time_ns >= {arguments.put(to_ns(time.start))}
            AND event_time_ns < {arguments.put(to_ns(time.end))} {_only(question, "properties", arguments)}"""


def _index(time: str, starts: str) -> str:
    """The number of the row; of what lies before the first one -1."""
    return f"width_bucket({time}, {starts}) - 1"


def _only(question: UsageQuestion, dimensions: str, arguments: Arguments) -> str:
    """What is asked for, of all that the meter has."""
    found = f" AND customer_id = {arguments.put(question.customer_id)}" if question.customer_id else ""
    if question.filters:
        wanted = orjson.dumps({item.property: item.value for item in question.filters}).decode()
        found += f" AND {dimensions} @> {arguments.put(wanted, 'text')}::jsonb"
    return found


def _grouped(selection: UsageSelection, group: Sequence[str], payload: str, arguments: Arguments) -> str:
    """All groups, or the chosen ones, and perhaps the others as one."""
    if selection.chosen is None:
        return f"SELECT {''.join(f'{name}, ' for name in group)} {payload} FROM part"
    customers = arguments.put([customer_id for customer_id, _ in selection.chosen], "text[]")
    texts = arguments.put([text for _, text in selection.chosen], "text[]")
    same, include_others = [], selection.question.include_others
    expressions = {"index": "part.index", "bucket": "part.bucket", "others": "chosen.place IS NULL"}
    if "customer_id" in group:
        same.append("chosen.customer_id = part.customer_id")
        expressions["customer_id"] = "coalesce(chosen.customer_id, '')"
    if "dimensions" in group:
        same.append("chosen.dimensions_text = part.dimensions::text")
        expressions["dimensions"] = f"CASE WHEN chosen.place IS NULL THEN {NO_DIMENSIONS} ELSE dimensions END"
    return f"""
        SELECT {_columns(group, expressions)} {payload}
        FROM part {"LEFT" if include_others else "INNER"} JOIN (
            SELECT customer_id COLLATE "C" AS customer_id, dimensions_text COLLATE "C" AS dimensions_text, place
            FROM unnest({customers}, {texts}) WITH ORDINALITY AS given (customer_id, dimensions_text, place)
        ) AS chosen ON {" AND ".join(same) or "true"}"""
