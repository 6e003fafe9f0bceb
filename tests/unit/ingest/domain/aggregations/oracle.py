"""The plainest meaning of each aggregation, event by event, in exact fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from services.ingest.domain.aggregations import EventColumns, Operation
from services.ingest.domain.meter import Aggregation

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    time_ns: int
    position: int
    value: Decimal = Decimal(1)
    text: str = ""
    removes: bool = False


def columns(events: Sequence[Event]) -> EventColumns:
    return EventColumns(
        [event.time_ns for event in events],
        [event.position for event in events],
        [event.value for event in events],
        [event.text for event in events],
        [Operation.REMOVE if event.removes else Operation.ADD for event in events],
    )


def events_between(start_ns: int, end_ns: int, max_size: int = 20) -> st.SearchStrategy[list[Event]]:
    """Events with few distinct times, values and texts, so that they meet; each with a position of its own."""
    times = st.one_of(
        st.integers(start_ns, end_ns - 1),
        st.sampled_from([start_ns, (start_ns + end_ns) // 2, end_ns - 1]),
    )
    event = st.tuples(times, st.integers(-3000, 3000), st.sampled_from("abc"), st.booleans())
    return st.lists(event, max_size=max_size).map(
        lambda found: [
            Event(time_ns, position, Decimal(units).scaleb(-2), text, removes)
            for position, (time_ns, units, text, removes) in enumerate(found)
        ]
    )


def local_date(time_ns: int, zone: ZoneInfo) -> date:
    return (EPOCH + timedelta(microseconds=time_ns // 1000)).astimezone(zone).date()


def expected(aggregation: Aggregation, events: Sequence[Event]) -> Fraction | None:
    values = [Fraction(event.value) for event in events]
    if aggregation is Aggregation.COUNT:
        return Fraction(len(events))
    if aggregation is Aggregation.UNIQUE_COUNT:
        latest = {event.text: event for event in sorted(events, key=lambda event: (event.time_ns, event.position))}
        return Fraction(sum(not event.removes for event in latest.values()))
    if not values:
        return None
    if aggregation is Aggregation.LATEST:
        return Fraction(max(events, key=lambda event: (event.time_ns, event.position)).value)
    return {
        Aggregation.SUM: sum(values, Fraction(0)),
        Aggregation.MIN: min(values),
        Aggregation.MAX: max(values),
        Aggregation.AVG: sum(values, Fraction(0)) / len(values),
    }[aggregation]


def expected_weighted(events: Sequence[Event], start_ns: int, end_ns: int, initial: Decimal) -> Fraction:
    """The level in each piece of the period, times the length of the piece, over the length of the period."""
    cuts = sorted({start_ns, end_ns, *(event.time_ns for event in events if start_ns < event.time_ns < end_ns)})
    total = Fraction(0)
    for left, right in pairwise(cuts):
        level = Fraction(initial) + sum(Fraction(event.value) for event in events if event.time_ns <= left)
        total += level * (right - left)
    return total / (end_ns - start_ns)


def expected_percentile(values: Sequence[Fraction], percent: Decimal) -> Fraction | None:
    """The smallest value that at least so many percent do not exceed, tried one after another."""
    for value in sorted(set(values)):
        if Fraction(sum(other <= value for other in values), len(values)) * 100 >= Fraction(percent):
            return value
    return None


def expected_days(events: Sequence[Event], start_ns: int, end_ns: int, zone: ZoneInfo) -> int:
    """On how many local days of the period each text was there: tried on every day, at every moment that matters."""
    total = 0
    for text in {event.text for event in events}:
        history = sorted(
            (event for event in events if event.text == text), key=lambda event: (event.time_ns, event.position)
        )
        days: set[date] = set()
        for index, event in enumerate(history):
            until = history[index + 1].time_ns if index + 1 < len(history) else end_ns
            if event.removes or (until < start_ns):
                continue
            # A removal counts its own day; the end of the period does not belong to it.
            last = local_date(until if index + 1 < len(history) else end_ns - 1, zone)
            day = local_date(max(event.time_ns, start_ns), zone)
            while day <= last:
                days.add(day)
                day += timedelta(days=1)
        total += len(days)
    return total
