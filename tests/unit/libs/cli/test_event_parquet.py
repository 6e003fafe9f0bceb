"""Parquet files: every column is exact text or refused by its name."""

from __future__ import annotations

import importlib
import sys
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from libs.cli.event_columns import ColumnRules
from libs.cli.event_file import EventFile, EventFileError, ReadEvent, Reading
from libs.cli.event_rows import Mark
from steelyard import UsageEvent

# It has no types of its own.
pa: Any = importlib.import_module("pyarrow")
pq: Any = importlib.import_module("pyarrow.parquet")
AT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
FIELDS = {"event_id": ["e1"], "customer_id": ["c"], "event_type": ["t"], "event_time": pa.array([AT])}


def events_of(path: Path, columns: dict[str, Any], **rules: bool) -> list[UsageEvent]:
    pq.write_table(pa.table(FIELDS | columns), path)
    return [item.event for item in EventFile(path, Reading(columns=ColumnRules(**rules))).events()]


def property_of(path: Path, column: Any, **rules: bool) -> object:
    [event] = events_of(path, {"x": column}, **rules)
    return event.properties.get("x")


def refusal_of(path: Path, columns: dict[str, Any], **rules: bool) -> str:
    with pytest.raises(EventFileError) as refused:
        events_of(path, columns, **rules)
    return str(refused.value).removeprefix(f"{path.parent}/")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


def many(path: Path, count: int) -> list[ReadEvent]:
    """A file of several groups of rows, several batches each."""
    columns = {"event_id": [f"e{number}" for number in range(count)], "event_time": pa.array([AT] * count)}
    table = pa.table(columns | {"customer_id": ["c"] * count, "event_type": ["t"] * count, "n": range(count)})
    pq.write_table(table, path, row_group_size=2_500)
    return list(EventFile(path, Reading()).events())


class TestColumns:
    def test_are_those_of_csv(self, path: Path) -> None:
        assert events_of(path, {"source": ["gw"], "input": [812], "gone": pa.nulls(1)}) == [
            UsageEvent("t", "c", {"input": "812"}, event_id="e1", event_time=AT, source="gw")
        ]

    @pytest.mark.parametrize(
        ("column", "text"),
        [
            (["é"], "é"),
            ([""], ""),
            ([None], None),
            (pa.array(["a"], pa.large_string()), "a"),
            (pa.array(["a"]).dictionary_encode(), "a"),
            (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
            ([True], "true"),
            ([Decimal("1.10")], "1.10"),
            (pa.array([Decimal("1000")], pa.decimal128(38, 10)), "1000.0000000000"),
            (pa.array([Decimal("-0.000000000001")], pa.decimal256(60, 12)), "-0.000000000001"),
            ([date(2026, 1, 31)], "2026-01-31"),
            (
                pa.array([1_769_903_999_000_000_001], pa.timestamp("ns", "Europe/Berlin")),
                "2026-01-31T23:59:59.000000001Z",
            ),
            (pa.array([-1], pa.timestamp("ms", "UTC")), "1969-12-31T23:59:59.999Z"),
            (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), "00000000-0000-0000-0000-000000000005"),
        ],
        ids=range(14),
    )
    def test_are_exact_text(self, path: Path, column: Any, text: str | None) -> None:
        assert property_of(path, column) == text

    @pytest.mark.parametrize(
        ("column", "text"),
        [
            (pa.array([0.1]), "0.1"),
            (pa.array([0.1], pa.float32()), "0.1"),
            (pa.array([1e22]), "1e+22"),
            (pa.array([5e-324]), "5e-324"),
        ],
        ids=range(4),
    )
    def test_of_floats_are_sent_only_if_it_is_asked_for(self, path: Path, column: Any, text: str) -> None:
        assert refusal_of(path, {"x": column}).startswith("a.parquet: column x: ")
        assert "--allow-float" in refusal_of(path, {"x": column})
        assert property_of(path, column, allow_float=True) == text

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
    def test_of_floats_hold_no_value_that_is_none(self, path: Path, value: str) -> None:
        said = refusal_of(path, {"x": pa.array([float(value)])}, allow_float=True)
        assert said == f"a.parquet:1: x: {value} is no number"

    def test_of_floats_in_a_map_are_refused_in_their_row(self, path: Path) -> None:
        rows = pa.array([[("a", 1.0), ("b", 2.0)], [], [("c", float("nan"))]], pa.map_(pa.string(), pa.float64()))
        columns: dict[str, Any] = {name: list(FIELDS[name]) * 3 for name in FIELDS if name != "event_time"}
        said = refusal_of(path, columns | {"event_time": pa.array([AT] * 3), "properties": rows}, allow_float=True)
        assert said == "a.parquet:3: properties: nan is no number"

    def test_without_a_zone_are_utc_only_if_it_is_asked_for(self, path: Path) -> None:
        column = pa.array([1_769_903_999_123_456_789], pa.timestamp("ns"))
        said = refusal_of(path, {"event_time": column})
        assert said.startswith("a.parquet: column event_time: times without a zone")
        assert "--assume-utc" in said
        [event] = events_of(path, {"event_time": column}, assume_utc=True)
        assert event.to_pb("").event_time.ToJsonString() == "2026-01-31T23:59:59.123456789Z"

    def test_of_time_may_be_text(self, path: Path) -> None:
        [event] = events_of(path, {"event_time": ["2026-02-01T00:59:59+01:00"]})
        assert event.event_time == AT

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([[("input", 812), ("gone", None)]], pa.map_(pa.string(), pa.int64())),
            pa.array([{"input": 812, "gone": None}]),
        ],
        ids=["map", "struct"],
    )
    def test_properties_may_be_in_one(self, path: Path, column: Any) -> None:
        [event] = events_of(path, {"properties": column, "region": ["eu"]})
        assert event.properties == {"input": "812", "region": "eu"}

    def test_a_map_may_differ_from_row_to_row(self, path: Path) -> None:
        rows = [[("a", "1"), ("b", "2")], None, [], [("a", "3")]]
        columns: dict[str, Any] = {name: list(FIELDS[name]) * 4 for name in FIELDS if name != "event_time"}
        columns |= {"event_time": pa.array([AT] * 4), "properties": pa.array(rows, pa.map_(pa.string(), pa.string()))}
        pq.write_table(pa.table(columns), path)
        found = [item.event.properties for item in EventFile(path, Reading()).events(Mark(0, 1))]
        assert found == [{"a": "1", "b": "2"}, {}, {}, {"a": "3"}]
        assert [item.event.properties for item in EventFile(path, Reading()).events(Mark(2, 3))] == found[2:]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("columns", "reason"),
        [
            ({"x": [[1]]}, ": column x: list<element: int64> is nested"),
            ({"x": [{"a": 1}]}, ": column x: struct<a: int64> is nested"),
            ({"x": [b"a"]}, ": column x: binary is no text and no number"),
            ({"x": pa.array([5], pa.duration("s"))}, ": column x: duration[s] is no text and no number"),
            ({"event_id": [True]}, ": column event_id: bool is neither text nor whole numbers"),
            ({"customer_id": [[1]]}, ": column customer_id: list<element: int64> is neither text nor whole numbers"),
            ({"event_time": [date(2026, 1, 31)]}, ":1: '2026-01-31' is not an instant with its zone, such as"),
            ({"properties": ["{}"]}, ": column properties: string is neither a struct nor a map"),
            ({"properties": [{"a": [1]}]}, ": column properties.a: list<element: int64> is nested"),
            ({"properties": [{"x": 1}], "x": [2]}, ":1: properties that are there twice: x"),
            ({"event_id": [None]}, ":1: event_id is missing"),
            ({"x": ["x" * 700_000]}, ":1: an event of 700,0"),
        ],
        ids=range(12),
    )
    def test_is_named(self, path: Path, columns: dict[str, Any], reason: str) -> None:
        assert refusal_of(path, columns).startswith(f"a.parquet{reason}")

    def test_before_anything_is_read(self, path: Path) -> None:
        pq.write_table(pa.table({"event_id": ["e1"], "customer_id": ["c"]}), path)
        with pytest.raises(EventFileError, match="no column event_time; the columns are event_id, customer_id"):
            next(iter(EventFile(path, Reading()).events()))

    def test_another_file(self, path: Path) -> None:
        path.write_bytes(b"event_id,customer_id\n" * 100)
        with pytest.raises(EventFileError, match="not a Parquet file"):
            list(EventFile(path, Reading()).events())

    def test_without_pyarrow_it_is_said_what_to_do(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        many(path, 1)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(EventFileError, match="needs pyarrow: pip install pyarrow"):
            list(EventFile(path, Reading()).events())


class TestReading:
    def test_goes_on_from_any_row(self, path: Path) -> None:
        items = many(path, 6_000)
        assert [item.event.properties["n"] for item in items] == [str(number) for number in range(6_000)]
        for rows in (1, 999, 1_000, 2_499, 2_500, 2_501, 5_999, 6_000):
            assert list(EventFile(path, Reading()).events(items[rows - 1].end)) == items[rows:]

    def test_says_how_far_it_is(self, path: Path) -> None:
        many(path, 3_000)
        file = EventFile(path, Reading())
        reached = [file.reached for _ in file.events()]
        assert (file.size, reached[0], reached[-1]) == (3_000, 1, 3_000)

    def test_ids_may_come_from_content_and_row(self, path: Path) -> None:
        pq.write_table(pa.table({name: FIELDS[name] for name in FIELDS if name != "event_id"}), path)
        [item] = EventFile(path, Reading(derive_ids=True)).events()
        assert item.event.event_id.endswith(":1")
