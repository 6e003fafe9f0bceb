"""Effective events of one meter and group, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Operation(StrEnum):
    """What an event of a unique count does with its text."""

    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Parallel lists, in any order of events.

    `times_ns` are event times in nanoseconds since 1970, `positions` grow in the order of recording and are all
    different. `values` are what numbers are made of, `texts` what unique counts count; empty if not needed. Empty
    `operations` mean that all events add.
    """

    times_ns: Sequence[int]
    positions: Sequence[int]
    values: Sequence[Decimal] = ()
    texts: Sequence[str] = ()
    operations: Sequence[Operation] = ()

    def __post_init__(self) -> None:
        count = len(self.times_ns)
        if len(self.positions) != count or any(
            column and len(column) != count for column in (self.values, self.texts, self.operations)
        ):
            raise ValueError("columns of events have different lengths")

    def __len__(self) -> int:
        return len(self.times_ns)

    def moments(self) -> list[tuple[int, int]]:
        """Time and position of each event."""
        return list(zip(self.times_ns, self.positions, strict=True))

    def take(self, rows: Sequence[int]) -> EventColumns:
        """Some of the events, by index."""
        return EventColumns(
            _taken(self.times_ns, rows),
            _taken(self.positions, rows),
            _taken(self.values, rows),
            _taken(self.texts, rows),
            _taken(self.operations, rows),
        )

    def slice(self, first: int, after: int) -> EventColumns:
        """The events with indexes from `first` up to but not including `after`."""
        return EventColumns(
            self.times_ns[first:after],
            self.positions[first:after],
            self.values[first:after],
            self.texts[first:after],
            self.operations[first:after],
        )

    def split(self, start_ns: int, end_ns: int) -> tuple[EventColumns, EventColumns]:
        """The events before `start_ns`, and those from it up to but not including `end_ns`."""
        before = [row for row, time_ns in enumerate(self.times_ns) if time_ns < start_ns]
        within = [row for row, time_ns in enumerate(self.times_ns) if start_ns <= time_ns < end_ns]
        return self.take(before), self.take(within)


NO_EVENTS = EventColumns((), ())


def joined(first: EventColumns, second: EventColumns) -> EventColumns:
    """The events of both."""
    if not len(first) or not len(second):
        return first if len(first) else second
    operations: list[Operation] = []
    if first.operations or second.operations:
        for part in (first, second):
            operations += part.operations or [Operation.ADD] * len(part)
    return EventColumns(
        [*first.times_ns, *second.times_ns],
        [*first.positions, *second.positions],
        [*first.values, *second.values],
        [*first.texts, *second.texts],
        operations,
    )


def _taken(column: Sequence[T], rows: Sequence[int]) -> list[T]:
    return [column[row] for row in rows] if column else []
