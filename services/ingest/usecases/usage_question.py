"""What a caller wants to know about usage, and whether it can be answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from libs.errors import InvalidInput, Violation
from libs.periods import WINDOW, BucketSize, Period, buckets, find_zone
from services.ingest.domain.aggregations import AggregationPeriod, BucketGrid
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter, PropertyFilter
from services.ingest.domain.meter_options import BucketLength, Buckets
from services.ingest.usecases.window_cover import FIRST_INSTANT, WindowCover, cover

MAX_TOP_GROUPS = 1_000
_MAX_ROWS_IN_TIME = 50_000
_LAST_INSTANT = datetime(2262, 1, 1, tzinfo=UTC)
_USUAL_LENGTH = {
    BucketSize.MINUTE: timedelta(minutes=1),
    BucketSize.QUARTER_HOUR: WINDOW,
    BucketSize.HOUR: timedelta(hours=1),
    BucketSize.DAY: timedelta(days=1),
    BucketSize.WEEK: timedelta(days=7),
    BucketSize.MONTH: timedelta(days=28),
    BucketSize.BILLING_PERIOD: timedelta(days=28),
}
_INSIDE_WINDOWS = frozenset({BucketLength.MINUTE, BucketLength.FIVE_MINUTES})

GroupKey = tuple[str, str]
"""Customer and dimensions as JSON."""


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What a caller wants to know. `customer_id` empty: all; `size` None: one row; `time_zone` empty: UTC.

    `anchor_day` is of billing periods and otherwise 0. `top_groups` 0: all groups.
    """

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
    anchor_day: int = 0
    top_groups: int = 0
    include_others: bool = False

    @property
    def zone(self) -> ZoneInfo:
        return find_zone(self.time_zone or "UTC")


@dataclass(frozen=True, slots=True)
class UsageSelection:
    """A question in terms of what is stored.

    `rows` are the times of the answer, in order; unless `cover` is of the log alone, their cuts never lie inside a
    window. `dropped` are the meter's dimensions that are put together. `grid` has the meter's buckets over the whole
    time. If there are `chosen` groups, all others are left out, or put together if the question says so.
    """

    question: UsageQuestion
    rows: Sequence[Period]
    cover: WindowCover
    dropped: tuple[str, ...]
    grid: BucketGrid | None = None
    chosen: Sequence[GroupKey] | None = None


def select_usage(question: UsageQuestion, meter: Meter) -> UsageSelection:
    """Split the time asked for into rows, and into whole windows and edges.

    :raises InvalidInput: naming what is wrong with the question
    """
    found = list(_violations(question, meter))
    if found:
        raise InvalidInput(found)
    zone, asked = question.zone, Period(question.start, question.end)
    rows: Sequence[Period] = (asked,)
    if question.size is not None:
        rows = buckets(asked, question.size, zone, anchor_day=question.anchor_day)
    by_log = question.size is BucketSize.MINUTE or cuts_windows(meter)
    return UsageSelection(
        question,
        rows,
        cover(asked, carried=meter.carry_over, by_log=by_log),
        dropped=tuple(name for name in meter.group_by if name not in question.group_by),
        grid=meter_grid(meter.buckets, asked) if meter.buckets else None,
    )


def cuts_windows(meter: Meter) -> bool:
    """Whether the meter has buckets that are shorter than windows."""
    return meter.buckets is not None and meter.buckets.length in _INSIDE_WINDOWS


def meter_grid(options: Buckets, time: Period) -> BucketGrid:
    """A meter's buckets over a time."""
    period = AggregationPeriod(to_ns(time.start), to_ns(time.end))
    return BucketGrid.of(period, options.length, find_zone(options.time_zone))


def _violations(question: UsageQuestion, meter: Meter) -> Iterator[Violation]:
    if question.start >= question.end:
        yield Violation("end_time", "NOT_AFTER_START", "must be after start_time")
    if question.start < FIRST_INSTANT or question.end > _LAST_INSTANT:
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
    yield from _option_violations(question)
    # Before anything is cut: the cuts of some centuries would keep this process from everything else for minutes.
    if question.size and question.end - question.start > _MAX_ROWS_IN_TIME * _USUAL_LENGTH[question.size]:
        yield Violation("window_size", "TOO_SMALL", f"cuts the time into more than {_MAX_ROWS_IN_TIME} rows")


def _option_violations(question: UsageQuestion) -> Iterator[Violation]:
    if question.size is BucketSize.BILLING_PERIOD:
        if not 1 <= question.anchor_day <= 31:
            yield Violation("anchor_day", "OUT_OF_RANGE", f"must be 1 to 31, is {question.anchor_day}")
    elif question.anchor_day:
        yield Violation("anchor_day", "NOT_ALLOWED", "only billing periods have one")
    if not 0 <= question.top_groups <= MAX_TOP_GROUPS:
        yield Violation("top_groups", "OUT_OF_RANGE", f"must be 0 to {MAX_TOP_GROUPS}, is {question.top_groups}")
    if question.include_others and not question.top_groups:
        yield Violation("include_others", "NOT_ALLOWED", "without top_groups there are no others")
