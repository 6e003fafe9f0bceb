"""What a usage window holds of an aggregation whose parts can be merged: count, sum, min, max, avg, latest.

The state of a time is the merge of the states of its parts, in any order and any grouping: `merge` is associative and
commutative, and `NO_STATE` changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

from libs.money import QUANTITY_CONTEXT, Exact
from services.ingest.domain.meter_options import Aggregation

_ZERO = Decimal(0)


class WindowState(NamedTuple):
    """What events of a time come to.

    `value` is the number of events of COUNT, the sum of SUM and AVG, the least or greatest value of MIN and MAX, and
    of LATEST that of the event with (`latest_ns`, `latest_position`), which are zero otherwise.
    """

    event_count: int
    value: Decimal
    latest_ns: int = 0
    latest_position: int = 0


NO_STATE = WindowState(0, _ZERO)


def merge(aggregation: Aggregation, left: WindowState, right: WindowState) -> WindowState:
    """The state of two times together, which have no event in common.

    :raises decimal.DecimalException: if a sum leaves the range of quantities
    :raises ValueError: if the aggregation has no states
    """
    if not left.event_count or not right.event_count:
        return left if left.event_count else right
    count = left.event_count + right.event_count
    match aggregation:
        case Aggregation.COUNT | Aggregation.SUM | Aggregation.AVG:
            return WindowState(count, QUANTITY_CONTEXT.add(left.value, right.value))
        case Aggregation.MIN:
            return WindowState(count, min(left.value, right.value))
        case Aggregation.MAX:
            return WindowState(count, max(left.value, right.value))
        case Aggregation.LATEST:
            later = max(left, right, key=lambda state: (state.latest_ns, state.latest_position))
            return later._replace(event_count=count)
        case other:
            raise ValueError(f"{other} has no states that merge")


def merge_all(aggregation: Aggregation, states: Iterable[WindowState]) -> WindowState:
    """The state of many times together; `NO_STATE` of none."""
    return reduce(lambda left, right: merge(aggregation, left, right), states, NO_STATE)


def state_value(aggregation: Aggregation, state: WindowState) -> Exact | None:
    """The exact quantity of a time; None without an event, but a count is zero then."""
    if aggregation is Aggregation.COUNT:
        return state.value
    if not state.event_count:
        return None
    return Fraction(state.value) / state.event_count if aggregation is Aggregation.AVG else state.value
