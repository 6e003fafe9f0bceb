"""Many window states at once, while readings are added to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar

from libs.money import QUANTITY_CONTEXT
from services.ingest.domain.aggregations.states import WindowState
from services.ingest.domain.meter_options import WINDOWED, Aggregation

_ZERO = Decimal(0)

Moment = tuple[int, int]
"""Event time in nanoseconds since 1970, and position in the order of recording."""
_BEFORE_ALL: Moment = (-(1 << 127), 0)


class StateColumns(ABC):
    """States by index. `counts` are numbers of events; a state without one is no state.

    `needs_moments`: only the latest value asks when an event was; the others are spared finding out.
    """

    needs_moments: ClassVar[bool] = False

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._values: list[Decimal] = []

    def make_room(self, size: int) -> None:
        """Have states for all indexes below `size`."""
        missing = size - len(self.counts)
        self.counts += [0] * missing
        self._values += [_ZERO] * missing

    def add(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment] = ()) -> None:
        """Add each event to the state with its index; all columns have the same length.

        :raises ValueError: if a column that is needed is shorter or longer
        :raises decimal.DecimalException: if a sum leaves the range of quantities
        """
        self._add_values(indexes, values, moments)
        counts = self.counts
        for index, count in Counter(indexes).items():
            counts[index] += count

    def state(self, index: int) -> WindowState:
        return WindowState(self.counts[index], self._values[index])

    @abstractmethod
    def _add_values(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment]) -> None:
        """Before the events are counted."""


class _Sums(StateColumns):
    def _add_values(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment]) -> None:
        sums, add = self._values, QUANTITY_CONTEXT.add
        for index, value in zip(indexes, values, strict=True):
            sums[index] = add(sums[index], value)


class _Counts(StateColumns):
    def _add_values(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment]) -> None:
        pass

    def state(self, index: int) -> WindowState:
        return WindowState(self.counts[index], Decimal(self.counts[index]))


class _Least(StateColumns):
    def _add_values(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment]) -> None:
        least = _of_batch(indexes, values, self._values, self.counts)
        for index, value in zip(indexes, values, strict=True):
            if value < least[index]:
                least[index] = value


class _Greatest(StateColumns):
    def _add_values(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment]) -> None:
        greatest = _of_batch(indexes, values, self._values, self.counts)
        for index, value in zip(indexes, values, strict=True):
            if value > greatest[index]:
                greatest[index] = value


class _Latest(StateColumns):
    needs_moments = True

    def __init__(self) -> None:
        super().__init__()
        self._latest: list[Moment] = []

    def make_room(self, size: int) -> None:
        super().make_room(size)
        self._latest += [_BEFORE_ALL] * (size - len(self._latest))

    def _add_values(self, indexes: Sequence[int], values: Sequence[Decimal], moments: Sequence[Moment]) -> None:
        known, latest = self._values, self._latest
        for index, moment, value in zip(indexes, moments, values, strict=True):
            if moment > latest[index]:
                latest[index] = moment
                known[index] = value

    def state(self, index: int) -> WindowState:
        if not self.counts[index]:
            return WindowState(0, _ZERO)
        return WindowState(self.counts[index], self._values[index], *self._latest[index])


def _of_batch(
    indexes: Sequence[int], values: Sequence[Decimal], known: list[Decimal], counts: Sequence[int]
) -> list[Decimal]:
    """The known values, with any of the new ones where no event was counted yet."""
    for index, value in zip(indexes, values, strict=True):
        if not counts[index]:
            known[index] = value
    return known


_COLUMNS: dict[Aggregation, type[StateColumns]] = {
    Aggregation.COUNT: _Counts,
    Aggregation.SUM: _Sums,
    Aggregation.AVG: _Sums,
    Aggregation.MIN: _Least,
    Aggregation.MAX: _Greatest,
    Aggregation.LATEST: _Latest,
}


def state_columns(aggregation: Aggregation) -> StateColumns:
    """No states yet.

    :raises ValueError: if the aggregation has no states that merge
    """
    if aggregation not in WINDOWED:
        raise ValueError(f"{aggregation} has no states that merge")
    return _COLUMNS[aggregation]()
