"""States that merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.aggregations import (
    NO_STATE,
    AggregationPeriod,
    WindowState,
    evaluate,
    evaluate_states,
    merge,
    merge_all,
    state_columns,
    state_value,
    whole_state,
)
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.meter_options import WINDOWED, EmptyResult
from tests.unit.ingest.domain.aggregations.oracle import Event, columns, events_between, expected

WINDOW_NS = 15 * 60 * 10**9
DAY_NS = 96 * WINDOW_NS
START_NS = 20_000 * DAY_NS
PERIOD = AggregationPeriod(START_NS, START_NS + DAY_NS)

aggregations = pytest.mark.parametrize("aggregation", sorted(WINDOWED))
days = events_between(PERIOD.start_ns, PERIOD.end_ns)


def meter(aggregation: Aggregation) -> Meter:
    return Meter("m", "", "t", aggregation, "" if aggregation is Aggregation.COUNT else "v", empty=EmptyResult.ZERO)


def states_of(aggregation: Aggregation, batches: Sequence[Sequence[Event]]) -> dict[int, WindowState]:
    """By window, batch after batch, as a recorder makes and merges them."""
    stored: dict[int, WindowState] = {}
    for batch in batches:
        found = state_columns(aggregation)
        windows = sorted({event.time_ns // WINDOW_NS for event in batch})
        found.make_room(len(windows))
        indexes = [windows.index(event.time_ns // WINDOW_NS) for event in batch]
        found.add(indexes, [event.value for event in batch], columns(batch).moments())
        for index, window in enumerate(windows):
            stored[window] = merge(aggregation, found.state(index), stored.get(window, NO_STATE))
    return stored


@aggregations
class TestMerge:
    @given(first=days, second=days, third=days)
    def test_is_associative_and_commutative_and_knows_nothing(
        self, aggregation: Aggregation, first: list[Event], second: list[Event], third: list[Event]
    ) -> None:
        # Positions are unique over all events that there are.
        parts = [
            [replace(event, position=3 * event.position + number) for event in part]
            for number, part in enumerate((first, second, third))
        ]
        a, b, c = (whole_state(aggregation, columns(part)) for part in parts)

        assert merge(aggregation, merge(aggregation, a, b), c) == merge(aggregation, a, merge(aggregation, b, c))
        assert merge(aggregation, a, b) == merge(aggregation, b, a)
        assert merge(aggregation, a, NO_STATE) == merge(aggregation, NO_STATE, a) == a

    @given(events=days)
    def test_the_value_is_what_the_aggregation_means(self, aggregation: Aggregation, events: list[Event]) -> None:
        found = state_value(aggregation, whole_state(aggregation, columns(events)))

        assert (None if found is None else Fraction(found)) == expected(aggregation, events)

    @given(events=days, data=st.data())
    def test_windows_of_shuffled_batches_give_the_whole(
        self, aggregation: Aggregation, events: list[Event], data: st.DataObject
    ) -> None:
        shuffled = data.draw(st.permutations(events))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
        batches = [shuffled[left:right] for left, right in zip([0, *cuts], [*cuts, len(events)], strict=True)]

        states = states_of(aggregation, batches)

        assert merge_all(aggregation, states.values()) == whole_state(aggregation, columns(events))
        whole = evaluate(meter(aggregation), columns(events), PERIOD)
        assert evaluate_states(meter(aggregation), states.values()) == whole


class TestStateColumns:
    @aggregations
    def test_room_for_more_changes_nothing(self, aggregation: Aggregation) -> None:
        found = state_columns(aggregation)
        found.make_room(1)
        found.add([0], [Decimal(-5)], [(7, 1)])
        before = found.state(0)

        found.make_room(3)

        assert found.state(0) == before
        assert [found.state(index).event_count for index in range(3)] == [1, 0, 0]
        assert found.state(1) == NO_STATE

    def test_only_the_latest_value_needs_moments(self) -> None:
        assert [name for name in sorted(WINDOWED) if state_columns(name).needs_moments] == [Aggregation.LATEST]

    @pytest.mark.parametrize("aggregation", sorted(WINDOWED - {Aggregation.COUNT}))
    def test_columns_of_different_lengths_are_refused(self, aggregation: Aggregation) -> None:
        found = state_columns(aggregation)
        found.make_room(1)

        with pytest.raises(ValueError, match="zip"):
            found.add([0, 0], [Decimal(1)], [(1, 1)])

    @pytest.mark.parametrize("aggregation", sorted(set(Aggregation) - WINDOWED))
    def test_what_has_no_states_gets_none(self, aggregation: Aggregation) -> None:
        with pytest.raises(ValueError, match="no states that merge"):
            state_columns(aggregation)
        with pytest.raises(ValueError, match="no states that merge"):
            merge(aggregation, WindowState(1, Decimal(1)), WindowState(1, Decimal(1)))


class TestLatest:
    def test_a_tie_goes_to_what_was_recorded_last(self) -> None:
        events = [Event(START_NS, 2, Decimal(20)), Event(START_NS, 3, Decimal(30)), Event(START_NS - 1, 9, Decimal(90))]

        assert whole_state(Aggregation.LATEST, columns(events)) == WindowState(3, Decimal(30), START_NS, 3)

    def test_times_before_1970_come_first(self) -> None:
        events = [Event(-5, 1, Decimal(1)), Event(-9, 2, Decimal(2))]

        assert whole_state(Aggregation.LATEST, columns(events)).value == 1


def test_only_windows_of_mergeable_meters_are_evaluated() -> None:
    with pytest.raises(ValueError, match="do not give its quantity"):
        evaluate_states(replace(meter(Aggregation.SUM), carry_over=True), [])
