"""Rows of usage: from states of windows, or from what was measured in events."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from zoneinfo import ZoneInfo

from libs.periods import Period
from services.ingest.domain.aggregations import (
    NO_EVENTS,
    AggregationPeriod,
    EventColumns,
    WindowState,
    evaluate,
    evaluate_states,
)
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter

Cursor = tuple[int, str, str]
"""Index of the row's time, customer, dimensions as JSON."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The quantity of one group in one time; `index` is the number of the time."""

    index: int
    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    value: Decimal
    event_count: int

    @property
    def place(self) -> Cursor:
        """Where it stands among all rows."""
        return self.index, self.customer_id, self.dimensions_text


@dataclass(frozen=True, slots=True)
class StateRow:
    """The state of one group in one time, merged from windows and events."""

    index: int
    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    state: WindowState


@dataclass(frozen=True, slots=True)
class EventGroup:
    """What a meter measured in the effective events of one group, in the order of their times."""

    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    events: EventColumns


def usage_of_state(meter: Meter, row: StateRow) -> UsageRow | None:
    """The row's quantity; None if there is none."""
    value = evaluate_states(meter, [row.state])
    if value is None:
        return None
    return UsageRow(row.index, row.customer_id, row.dimensions, row.dimensions_text, value, row.state.event_count)


def usage_of_events(
    meter: Meter, groups: Sequence[EventGroup], times: Sequence[Period], zone: ZoneInfo
) -> list[UsageRow]:
    """The quantity of each group in each time that has events, or into which something is carried over; in order."""
    periods = [AggregationPeriod(to_ns(time.start), to_ns(time.end), zone) for time in times]
    rows = [row for group in groups for row in _of_group(meter, group, periods)]
    return sorted(rows, key=lambda row: row.place)


def _of_group(meter: Meter, group: EventGroup, periods: Sequence[AggregationPeriod]) -> Iterator[UsageRow]:
    events = group.events
    for index, first, after in _runs(events.times_ns, periods, through_the_end=meter.carry_over):
        carried = events.slice(0, first) if meter.carry_over else NO_EVENTS
        value = evaluate(meter, events.slice(first, after), periods[index], carried=carried)
        if value is not None:
            yield UsageRow(
                index, group.customer_id, group.dimensions, group.dimensions_text, value, event_count=after - first
            )


def _runs(
    times_ns: Sequence[int], periods: Sequence[AggregationPeriod], *, through_the_end: bool
) -> Iterator[tuple[int, int, int]]:
    """The number of each period that has events, with the bounds of their indexes; with `through_the_end` of each from
    the first event on, whether or not it has any."""
    if through_the_end:
        for index, period in enumerate(periods):
            first, after = bisect_left(times_ns, period.start_ns), bisect_left(times_ns, period.end_ns)
            if after:
                yield index, first, after
        return
    starts = [period.start_ns for period in periods]
    numbered = groupby(enumerate(times_ns), key=lambda item: bisect_right(starts, item[1]) - 1)
    for index, run in numbered:
        places = [place for place, _ in run]
        yield index, places[0], places[-1] + 1
