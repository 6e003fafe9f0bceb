"""The quantity of a meter over any time, split as asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from libs.errors import InvalidInput, Violation
from libs.periods import WINDOW, BucketSize, Period, buckets, find_zone, is_window_aligned, window_start
from services.ingest.domain.meter import Meter, PropertyFilter

_MAX_ROWS_IN_TIME = 50_000
_USUAL_LENGTH = {
    BucketSize.QUARTER_HOUR: WINDOW,
    BucketSize.HOUR: timedelta(hours=1),
    BucketSize.DAY: timedelta(days=1),
    BucketSize.WEEK: timedelta(days=7),
    BucketSize.MONTH: timedelta(days=28),
}

Cursor = tuple[int, str, str]
"""Index of the row's time, customer, dimensions as JSON."""


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


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The quantity of one group in one time; `index` is the number of the time."""

    index: int
    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    value: Decimal
    event_count: int


class UsageStore(Protocol):
    async def meter(self, tenant_id: str, meter_id: str) -> Meter:
        """
        :raises MeterNotFound: if there is no such meter
        """

    async def usage(self, selection: UsageSelection, after: Cursor | None, limit: int) -> list[UsageRow]:
        """Return rows with events, ordered by time, customer and dimensions, those behind `after`."""


class QueryUsage:
    """Answers from windows, and exactly at edges inside them."""

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
        return selection.rows, await self._usage.usage(selection, after, limit)


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
