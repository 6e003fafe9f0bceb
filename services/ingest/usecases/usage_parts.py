"""Quantities from parts of them that the database puts together: of a row, of a bucket, of all before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from libs.money import Exact
from libs.periods import Period
from services.ingest.domain.aggregations import WindowState, finish, merge, over_values, state_value
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import WINDOWED, Aggregation, Buckets
from services.ingest.usecases.usage_question import meter_grid
from services.ingest.usecases.usage_rows import UsageRow

BEFORE = -1
"""Number of the part that lies before the first row."""


class Evaluation(Enum):
    """How the quantity of a row is found."""

    WHOLE = auto()
    """The database knows it."""
    PARTS = auto()
    """From parts that the database knows."""
    EVENTS = auto()
    """From the events."""


class UsagePart(NamedTuple):
    """What events of one group come to in one bucket of one row; `scope` is the number of what was asked.

    Of a unique count that carries over, the value is by how much the number of texts changes in the row.
    """

    index: int  # type: ignore[assignment] # What tuples have by that name is of no use here.
    bucket: int
    others: bool
    customer_id: str
    dimensions: Mapping[str, str]
    dimensions_text: str
    state: WindowState
    scope: int


def evaluation_of(meter: Meter) -> Evaluation:
    if meter.prorated or meter.aggregation is Aggregation.WEIGHTED_SUM:
        return Evaluation.EVENTS
    return Evaluation.PARTS if meter.carry_over or meter.buckets else Evaluation.WHOLE


def usage_of_part(meter: Meter, part: UsagePart) -> UsageRow | None:
    """The row that the part is all of; None if it has no quantity."""
    exact = _state_value(meter.aggregation, part.state)
    return _row(meter, part, part.index, exact, part.state.event_count)


def usage_of_parts(meter: Meter, parts: Iterable[UsagePart], rows: Sequence[Period]) -> list[UsageRow]:
    """The quantity of each group in each time that has events, or into which something is carried over; in order."""
    of_group = attrgetter("others", "customer_id", "dimensions_text")
    ordered = sorted(parts, key=attrgetter("others", "customer_id", "dimensions_text", "index", "bucket"))
    found = [row for _, group in groupby(ordered, of_group) for row in _of_group(meter, list(group), rows)]
    return sorted(found, key=lambda row: row.place)


def _of_group(meter: Meter, parts: Sequence[UsagePart], rows: Sequence[Period]) -> Iterable[UsageRow]:
    if meter.carry_over:
        return _carried(meter, parts, rows)
    if meter.buckets is not None:
        return _bucketed(meter, meter.buckets, parts, rows)
    return [row for part in parts if (row := usage_of_part(meter, part))]


def _carried(meter: Meter, parts: Sequence[UsagePart], rows: Sequence[Period]) -> Iterator[UsageRow]:
    # Each part is later than the one before it: what is merged is in order, however latest values compare.
    aggregation = meter.aggregation if meter.aggregation in WINDOWED else Aggregation.SUM
    by_index = {part.index: part for part in parts}
    first = parts[0]
    known = first.state._replace(latest_ns=BEFORE) if first.index == BEFORE else None
    for index in range(max(first.index, 0), len(rows)):
        count = 0
        if part := by_index.get(index):
            count, state = part.state.event_count, part.state._replace(latest_ns=index)
            known = state if known is None else merge(aggregation, known, state)
        assert known is not None  # The first part is before all, or of the first row.
        exact = state_value(aggregation, known)
        if (row := _row(meter, first, index, exact, count)) is not None:
            yield row


def _bucketed(meter: Meter, options: Buckets, parts: Sequence[UsagePart], rows: Sequence[Period]) -> Iterator[UsageRow]:
    for index, of_row in groupby(parts, attrgetter("index")):
        found = list(of_row)
        values: list[Exact] = []
        for part in found:
            value = _state_value(options.aggregation, part.state)
            assert value is not None  # Only of buckets without an event.
            values.append(value)
        count = bucket_count(options, rows[index])
        exact = over_values(meter.aggregation, options, values, count, meter.percentile)
        events = sum(part.state.event_count for part in found)
        if (row := _row(meter, found[0], index, exact, events)) is not None:
            yield row


@lru_cache(maxsize=10_000)
def bucket_count(options: Buckets, time: Period) -> int:
    """Many groups and customers have the same times."""
    return meter_grid(options, time).count


def _state_value(aggregation: Aggregation, state: WindowState) -> Exact | None:
    return state_value(aggregation, state) if aggregation in WINDOWED else state.value


def _row(meter: Meter, of: UsagePart, index: int, exact: Exact | None, event_count: int) -> UsageRow | None:
    value = finish(meter, exact)
    if value is None:
        return None
    return UsageRow(index, of.customer_id, of.dimensions, of.dimensions_text, value, event_count, of.others)
