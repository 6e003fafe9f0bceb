"""How events add up to windows, and what identifies both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.ingest.domain.aggregations import WindowState
from services.ingest.domain.door import to_ns
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.usage_batch import UsageColumns, payload_hash
from services.ingest.domain.usage_windows import WindowChange, WindowSums

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
METER = Meter("tokens", "", "llm", Aggregation.SUM, "tokens", group_by=("region", "model"))


def events(*rows: tuple[datetime, dict[str, str]]) -> UsageColumns:
    count = len(rows)
    times = [to_ns(at) for at, _ in rows]
    return UsageColumns(
        [str(row) for row in range(count)], ["s"] * count, ["llm"] * count, ["c"] * count, times, [p for _, p in rows]
    )


def sums(usage: UsageColumns, recorded: set[int] | None = None, trace_parent: str = "") -> WindowSums:
    windows = WindowSums()
    rows = set(range(len(usage))) if recorded is None else recorded
    windows.add(usage, measure(usage, [METER]).readings, rows, trace_parent)
    return windows


class TestWindowSums:
    def test_an_event_belongs_to_the_window_that_its_instant_begins_or_lies_in(self) -> None:
        before, edge = NOON - timedelta(microseconds=1), NOON
        usage = events(
            (before, {"tokens": "1"}), (edge, {"tokens": "2"}), (edge + timedelta(minutes=14), {"tokens": "4"})
        )

        found = {change.start: (change.value, change.event_count) for change in sums(usage).changes()}

        assert found == {NOON - timedelta(minutes=15): (Decimal(1), 1), NOON: (Decimal(6), 2)}

    def test_a_missing_dimension_is_a_group_of_its_own(self) -> None:
        rows = [{"model": "a", "region": "eu"}, {"model": "a"}, {"model": ""}, {}]
        usage = events(*((NOON, {"tokens": "1", **row}) for row in rows))

        found = {change.dimensions for change in sums(usage).changes()}

        assert found == {'{"model":"a","region":"eu"}', '{"model":"a"}', '{"model":""}', "{}"}

    def test_only_recorded_events_add(self) -> None:
        usage = events((NOON, {"tokens": "1"}), (NOON, {"tokens": "2"}))

        (change,) = sums(usage, recorded={1}).changes()

        assert (change.value, change.event_count) == (Decimal(2), 1)

    def test_the_key_is_the_same_for_the_same_window_and_different_for_others(self) -> None:
        usage = events(
            (NOON, {"tokens": "1", "model": "a"}), (NOON + timedelta(minutes=15), {"tokens": "1", "model": "a"})
        )

        first, again = ([change.key for change in sums(usage).changes()] for _ in range(2))

        assert first == again == sorted(set(first))
        assert len(first) == 2

    def test_the_last_sampled_trace_stays(self) -> None:
        usage = events((NOON, {"tokens": "1"}))
        windows = sums(usage, trace_parent="00-a-b-01")
        windows.add(usage, measure(usage, [METER]).readings, {0}, "")

        assert [change.trace_parent for change in windows.changes()] == ["00-a-b-01"]


class TestPayloadHash:
    def test_is_stored_and_so_never_changes(self) -> None:
        properties = {"tokens": "1", "model": 'é"\\\n'}
        assert (
            payload_hash("llm", "c", 1_773_144_000_000_000_001, properties).hex() == "5f7b37abba2cd4678e6a7c007e0d5df9"
        )

    def test_the_order_of_properties_does_not_matter_and_everything_else_does(self) -> None:
        base = payload_hash("t", "c", 1, {"a": "1", "b": "2"})
        assert payload_hash("t", "c", 1, {"b": "2", "a": "1"}) == base
        others = [
            payload_hash("tc", "", 1, {"a": "1", "b": "2"}),
            payload_hash("t", "c", 2, {"a": "1", "b": "2"}),
            payload_hash("t", "c", 1, {"a": "1", "b": "3"}),
            payload_hash("t", "c", 1, {"a": "1"}),
            payload_hash("t", "c", 1, {"a": '1","b":"2'}),
        ]
        assert base not in others


class TestSeveralMetersAndBatches:
    def test_meters_with_the_same_and_with_other_dimensions_add_up_apart(self) -> None:
        meters = [
            METER,
            Meter("calls", "", "llm", Aggregation.COUNT, "", group_by=("region", "model")),
            Meter("all", "", "llm", Aggregation.SUM, "tokens", group_by=()),
        ]
        windows = WindowSums()
        for batch in (
            events((NOON, {"tokens": "1", "model": "a"}), (NOON, {"tokens": "2", "model": "b"})),
            events((NOON + timedelta(hours=1), {"tokens": "4", "model": "a"}), (NOON, {"tokens": "8", "model": "a"})),
        ):
            windows.add(batch, measure(batch, meters).readings, {0, 1}, "")

        changes = windows.changes()
        found = {
            (change.meter_id, change.start, change.dimensions): (change.value, change.event_count) for change in changes
        }
        later = NOON + timedelta(hours=1)
        a, b = '{"model":"a"}', '{"model":"b"}'
        assert found == {
            ("tokens", NOON, a): (Decimal(9), 2),
            ("tokens", NOON, b): (Decimal(2), 1),
            ("tokens", later, a): (Decimal(4), 1),
            ("calls", NOON, a): (Decimal(2), 2),
            ("calls", NOON, b): (Decimal(1), 1),
            ("calls", later, a): (Decimal(1), 1),
            ("all", NOON, "{}"): (Decimal(11), 3),
            ("all", later, "{}"): (Decimal(4), 1),
        }
        assert [change.key for change in changes] == sorted(change.key for change in changes)


class TestStatesOfWindows:
    USAGE = events(
        (NOON, {"v": "5", "user": "a"}),
        (NOON + timedelta(minutes=2), {"v": "-1.5", "user": "b"}),
        (NOON + timedelta(minutes=1), {"v": "7", "user": "a"}),
        (NOON + timedelta(minutes=15), {"v": "100", "user": "a"}),
    )

    def changes(self, meter: Meter, positions: Sequence[int] = (40, 41, 42, 43)) -> list[WindowChange]:
        windows = WindowSums()
        windows.add(self.USAGE, measure(self.USAGE, [meter]).readings, {0, 1, 2, 3}, "", positions)
        return sorted(windows.changes(), key=lambda change: change.start)

    @pytest.mark.parametrize(
        ("aggregation", "value"),
        [
            (Aggregation.COUNT, "3"),
            (Aggregation.SUM, "10.5"),
            (Aggregation.AVG, "10.5"),
            (Aggregation.MIN, "-1.5"),
            (Aggregation.MAX, "7"),
            (Aggregation.LATEST, "-1.5"),
            (Aggregation.WEIGHTED_SUM, "10.5"),
            (Aggregation.UNIQUE_COUNT, "3"),
            (Aggregation.PERCENTILE, "3"),
        ],
    )
    def test_are_those_of_the_window_aggregation(self, aggregation: Aggregation, value: str) -> None:
        expression = {Aggregation.COUNT: "", Aggregation.UNIQUE_COUNT: "user"}.get(aggregation, "v")

        first, second = self.changes(Meter("m", "", "llm", aggregation, expression))

        assert (first.value, first.event_count, second.event_count) == (Decimal(value), 3, 1)

    def test_the_latest_value_knows_when_it_was(self) -> None:
        first, _ = self.changes(Meter("m", "", "llm", Aggregation.LATEST, "v"))

        at = to_ns(NOON + timedelta(minutes=2))
        assert first.state == WindowState(3, Decimal("-1.5"), at, 41)

    def test_the_latest_value_needs_positions(self) -> None:
        with pytest.raises(ValueError, match="needs the position"):
            self.changes(Meter("m", "", "llm", Aggregation.LATEST, "v"), positions=())

    def test_only_recorded_events_are_the_latest(self) -> None:
        meter = Meter("m", "", "llm", Aggregation.LATEST, "v")
        windows = WindowSums()
        windows.add(self.USAGE, measure(self.USAGE, [meter]).readings, {0, 2}, "", range(4))

        assert [change.state for change in windows.changes()] == [
            WindowState(2, Decimal(7), to_ns(NOON + timedelta(minutes=1)), 2)
        ]
