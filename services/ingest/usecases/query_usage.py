"""The quantity of a meter over any time, split as asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from libs.errors import InvalidInput, Violation
from libs.periods import WINDOW, BucketSize, Period, buckets, find_zone, is_window_aligned, window_start
from services.ingest.domain.meter import Meter, PropertyFilter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.usecases.usage_rows import Cursor, EventGroup, StateRow, UsageRow, usage_of_events, usage_of_state

_MAX_ROWS_IN_TIME = 50_000
MAX_EVENTS = 1_000_000
"""That a question may read from the log, where windows do not tell the answer."""
_USUAL_LENGTH = {
    BucketSize.QUARTER_HOUR: WINDOW,
    BucketSize.HOUR: timedelta(hours=1),
    BucketSize.DAY: timedelta(days=1),
    BucketSize.WEEK: timedelta(days=7),
    BucketSize.MONTH: timedelta(days=28),
}


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What a caller wants to know. `customer_id` empty: all; `size` None: one row; `time_zone` empty: UTC."""

    tenant_id: str
    meter_id: str
    customer_id: str
    start: datetime
    end: datetime
    size: BucketSize | None
    time_zone: str
    group_by: tuple[str, ...]
    by_customer: bool
    filters: tuple[PropertyFilter, ...]


@dataclass(frozen=True, slots=True)
class UsageSelection:
    """A question in terms of what is stored: whole windows, and `edges` inside windows that only the log can answer.

    `rows` are the times of the answer, in order; their cuts never lie inside a window. `dropped` are the meter's
    dimensions that are summed over.
    """

    question: UsageQuestion
    rows: Sequence[Period]
    windows: Period | None
    edges: Sequence[Period]
    dropped: tuple[str, ...]


class UsageStore(Protocol):
    async def meter(self, tenant_id: str, meter_id: str) -> Meter:
        """
        :raises MeterNotFound: if there is no such meter
        """

    async def states(
        self, selection: UsageSelection, aggregation: Aggregation, after: Cursor | None, limit: int
    ) -> list[StateRow]:
        """Return rows with events, ordered by time, customer and dimensions, those behind `after`."""

    async def events(
        self, question: UsageQuestion, meter: Meter, start: datetime | None, limit: int
    ) -> list[EventGroup]:
        """Return what the meter measured in the first `limit` events before the end asked for, by group; from `start`
        on if there is one."""


class QueryUsage:
    """Answers from windows, and exactly at edges inside them; what windows do not tell, from the log."""

    def __init__(self, *, usage: UsageStore) -> None:
        self._usage = usage

    async def __call__(
        self, question: UsageQuestion, after: Cursor | None, limit: int
    ) -> tuple[Sequence[Period], list[UsageRow]]:
        """Return the times of all rows, and at most `limit` rows behind `after`.

        :raises MeterNotFound: if there is no such meter
        :raises InvalidInput: naming what is wrong with the question
        """
        meter = await self._usage.meter(question.tenant_id, question.meter_id)
        selection = select_usage(question, meter)
        if meter.mergeable:
            states = await self._usage.states(selection, meter.aggregation, after, limit)
            return selection.rows, [row for state in states if (row := usage_of_state(meter, state))]
        start = None if meter.carry_over else question.start
        groups = await self._usage.events(question, meter, start, MAX_EVENTS + 1)
        if sum(len(group.events) for group in groups) > MAX_EVENTS:
            description = f"more than {MAX_EVENTS} events would have to be read; ask for a shorter time or one customer"
            raise InvalidInput.of("start_time", "TOO_MANY_EVENTS", description)
        rows = usage_of_events(meter, groups, selection.rows, find_zone(question.time_zone or "UTC"))
        behind = [row for row in rows if after is None or row.place > after]
        return selection.rows, behind[:limit]


def select_usage(question: UsageQuestion, meter: Meter) -> UsageSelection:
    """Split the time asked for into whole windows and edges.

    :raises InvalidInput: naming what is wrong with the question
    """
    found = list(_violations(question, meter))
    if found:
        raise InvalidInput(found)
    zone = find_zone(question.time_zone or "UTC")
    asked = Period(question.start, question.end)
    rows: Sequence[Period] = (asked,) if question.size is None else buckets(asked, question.size, zone)
    first_whole = asked.start if is_window_aligned(asked.start) else window_start(asked.start) + WINDOW
    last_whole = window_start(asked.end)
    if first_whole > last_whole:  # All of it lies inside one window.
        windows, edges = None, [asked]
    else:
        windows = Period(first_whole, last_whole) if first_whole < last_whole else None
        parts = [(asked.start, first_whole), (last_whole, asked.end)]
        edges = [Period(start, end) for start, end in parts if start < end]
    dropped = tuple(name for name in meter.group_by if name not in question.group_by)
    return UsageSelection(question, rows, windows, edges, dropped)


def _violations(question: UsageQuestion, meter: Meter) -> Iterator[Violation]:
    if question.start >= question.end:
        yield Violation("end_time", "NOT_AFTER_START", "must be after start_time")
    if question.start < datetime(1970, 1, 1, tzinfo=UTC) or question.end > datetime(2262, 1, 1, tzinfo=UTC):
        yield Violation("start_time", "OUT_OF_RANGE", "must lie, as end_time, in the years 1970 to 2261")
    for index, name in enumerate(question.group_by):
        if name not in meter.group_by:
            yield Violation(f"group_by[{index}]", "UNKNOWN_DIMENSION", f"meter {meter.meter_id} has no {name!r}")
    for index, item in enumerate(question.filters):
        if item.property not in meter.group_by:
            description = f"meter {meter.meter_id} has no {item.property!r}"
            yield Violation(f"filters[{index}].property", "UNKNOWN_DIMENSION", description)
        if "\x00" in item.value:
            yield Violation(f"filters[{index}].value", "CONTROL_CHARACTER", "must not contain U+0000")
    # Before anything is cut: the cuts of some centuries would keep this process from everything else for minutes.
    if question.size and question.end - question.start > _MAX_ROWS_IN_TIME * _USUAL_LENGTH[question.size]:
        yield Violation("window_size", "TOO_SMALL", f"cuts the time into more than {_MAX_ROWS_IN_TIME} rows")
