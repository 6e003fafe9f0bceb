"""What the log comes to as windows hold it: one statement puts together whatever meters measured in events."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Sequence

from services.ingest.domain.meter import Meter
from services.ingest.store.measured_events import POSITION
from services.ingest.store.usage_sql import NO_DIMENSIONS, Arguments

WINDOW_NS = 900_000_000_000
PLACE = "meter_id, customer_id, number, dimensions"
"""Which window; `number` counts windows since 1970."""
NUMBER = "(extract(epoch FROM window_start) / 900)::bigint"
"""Of a window in its table, the nearest one if its start is none."""
STATE = "value, event_count, latest_ns, latest_position"
_VALUES = {"min": "min(value)", "max": "max(value)", "latest": "(max(moment))[3]"}
"""By how windows are merged; all others are sums."""


class LoggedStates:
    """Common table expressions for some meters. `rule` says how their windows are merged; `reading` is made of events
    with the columns of the log; `logged` has PLACE and STATE of what was read, and whether any of it is only kept.

    Dimensions are grouped by as arrays of texts, which costs a fraction of objects, and become objects per window.
    """

    def __init__(self, meters: Sequence[Meter], arguments: Arguments) -> None:
        self._shapes = list(dict.fromkeys(tuple(meter.group_by) for meter in meters if meter.group_by))
        self._names = [[arguments.put(name, "text") for name in shape] for shape in self._shapes]
        ids = arguments.put([meter.meter_id for meter in meters], "text[]")
        merged = arguments.put([str(meter.window_aggregation) for meter in meters], "text[]")
        shapes = arguments.put([self._shape(meter) for meter in meters], "int[]")
        # What no meter needs is not aggregated.
        self._merges = sorted({str(meter.window_aggregation) for meter in meters})
        self.rule = f"""rule AS (
    SELECT meter_id COLLATE "C" AS meter_id, merged, shape
    FROM unnest({ids}, {merged}, {shapes}) AS rule (meter_id, merged, shape)
)"""

    def reading(self, events: str, where: str, *, is_kept: bool = False) -> str:
        """A SELECT over a FROM item of events; several of them make `reading` by UNION ALL."""
        moment = (
            f"CASE WHEN merged = 'latest' THEN ARRAY[event_time_ns, {POSITION}, measured.value::numeric] END"
            if "latest" in self._merges
            else "NULL::numeric[]"
        )
        return f"""
    SELECT rule.meter_id, customer_id COLLATE "C" AS customer_id, event_time_ns / {WINDOW_NS} AS number, merged, shape,
        {self._groups()} AS groups,
        CASE WHEN merged = 'count' THEN 1 ELSE measured.value::numeric END AS value, {moment} AS moment,
        {str(is_kept).lower()} AS is_kept
    FROM {events} CROSS JOIN LATERAL jsonb_each_text(measured) AS measured
        JOIN rule ON rule.meter_id = measured.key
    WHERE {where}"""

    def logged(self) -> str:
        """Of `reading`."""
        values = " ".join(f"WHEN '{name}' THEN {_VALUES[name]}" for name in self._merges if name in _VALUES)
        value = f"CASE merged {values} ELSE sum(value) END" if values else "sum(value)"
        return f"""logged AS (
    SELECT meter_id, customer_id, number, {self._dimensions()} AS dimensions, {value} AS value,
        count(*) AS event_count, {self._latest(1)} AS latest_ns, {self._latest(2)} AS latest_position,
        bool_or(is_kept) AS is_kept
    FROM reading GROUP BY meter_id, customer_id, number, merged, shape, groups
)"""

    def _latest(self, place: int) -> str:
        """A place of the greatest moment, or 0."""
        if "latest" not in self._merges:
            return "0::bigint"
        return f"CASE WHEN merged = 'latest' THEN (max(moment))[{place}]::bigint ELSE 0 END"

    def _shape(self, meter: Meter) -> int:
        return self._shapes.index(tuple(meter.group_by)) if meter.group_by else -1

    def _groups(self) -> str:
        if not self._shapes:
            return "NULL::text[]"
        cases = (
            f"WHEN {number} THEN ARRAY[{', '.join(f'properties ->> {name}' for name in names)}]"
            for number, names in enumerate(self._names)
        )
        return f"CASE shape {' '.join(cases)} END"

    def _dimensions(self) -> str:
        if not self._shapes:
            return NO_DIMENSIONS
        cases = []
        for number, names in enumerate(self._names):
            pairs = ", ".join(f"{name}, groups[{place}]" for place, name in enumerate(names, start=1))
            cases.append(f"WHEN {number} THEN jsonb_strip_nulls(jsonb_build_object({pairs}))")
        return f"CASE shape {' '.join(cases)} ELSE {NO_DIMENSIONS} END"
