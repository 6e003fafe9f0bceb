"""Rows of usage, and how they are made of what was measured in events."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from libs.periods import Period
from services.ingest.domain.aggregations import (
    NO_EVENTS,
    AggregationPeriod,
    EventColumns,
    evaluate,
    joined,
)
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter

Cursor = tuple[int, str, str]
"""Index of the row's time, customer, dimensions as JSON."""


class UsageRow(NamedTuple):
    """The quantity of one group in one time; `index` is the number of the time.

    `others` is of all groups that are not among the top ones. The `rank` of these begins with 1, and is otherwise 0.
    """

    index: int  # type: ignore[assignment] # What tuples have by that name is of no use here.
    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    value: Decimal
    event_count: int
    others: bool = False
    rank: int = 0

    @property
    def place(self) -> Cursor:
        """Where it stands among all rows: others last in their time, before all rows of the next one."""
        return (self.index + 1, "", "") if self.others else (self.index, self.customer_id, self.dimensions_text)


@dataclass(frozen=True, slots=True)
class EventGroup:
    """What a meter measured in the effective events of one group, in the order of their times."""

    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    events: EventColumns
    others: bool = False


def usage_of_events(
    meter: Meter, groups: Sequence[EventGroup], times: Sequence[Period], zone: ZoneInfo
) -> list[UsageRow]:
    """The quantity of each group in each time that has events, or into which something is carried over; in order."""
    periods = [AggregationPeriod(to_ns(time.start), to_ns(time.end), zone) for time in times]
    rows = [row for group in groups for row in _of_group(meter, group, periods)]
    return sorted(rows, key=lambda row: row.place)


def chosen_groups(
    groups: Sequence[EventGroup], chosen: Collection[tuple[str, str]], *, include_others: bool
) -> list[EventGroup]:
    """The groups with these customers and dimensions, and all others as one."""
    keep = [group for group in groups if (group.customer_id, group.dimensions_text) in chosen]
    rest = [group.events for group in groups if (group.customer_id, group.dimensions_text) not in chosen]
    if include_others and rest:
        events = reduce(joined, rest)
        by_time = events.take(sorted(range(len(events)), key=events.times_ns.__getitem__))
        keep.append(EventGroup("", {}, "", by_time, others=True))
    return keep


def _of_group(meter: Meter, group: EventGroup, periods: Sequence[AggregationPeriod]) -> Iterator[UsageRow]:
    events = group.events
    for index, first, after in _runs(events.times_ns, periods, through_the_end=meter.carry_over):
        carried = events.slice(0, first) if meter.carry_over else NO_EVENTS
        value = evaluate(meter, events.slice(first, after), periods[index], carried=carried)
        if value is not None:
            yield UsageRow(
                index=index,
                customer_id=group.customer_id,
                dimensions=group.dimensions,
                dimensions_text=group.dimensions_text,
                value=value,
                event_count=after - first,
                others=group.others,
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
