"""The vectors that there are, and the command that computes them.

The shared files are looked for in the directory that STEELYARD_VECTORS names, else in `../shared/vectors` beside the
repository. Without them nothing can be compared, which a test of its own says aloud.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.__main__ import main
from tests.vectors.contradictions import CONTRADICTIONS
from tests.vectors.running import Outcome, Status, differences_of, read_vectors, run

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("STEELYARD_VECTORS") or ROOT.parent / "shared" / "vectors")
AGGREGATIONS, PRICE_MODELS = SHARED / "aggregations.jsonl", SHARED / "price_models.jsonl"
PRORATION = SHARED / "proration.jsonl"

PERIOD = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z", "timezone": "UTC"}


def vector(value: str, *events: tuple[str, str, str | None], **given: Any) -> dict[str, Any]:
    """A sum of events (id, day of January, value)."""
    convention = given.pop("convention", {})
    made = [
        {"id": event_id, "timestamp": f"2026-01-{day}T00:00:00Z", "properties": {"v": amount}}
        for event_id, day, amount in events
    ]
    return {
        "id": "x",
        "group": "aggregations",
        "kind": "aggregate",
        "input": {"aggregation": "sum", "field": "v", "period": PERIOD, "events": made, **given},
        "expected": {"value": value},
        "convention": convention,
    }


def outcome(given: dict[str, Any]) -> Outcome:
    (found,) = run([given])
    return found


if AGGREGATIONS.is_file() and PRICE_MODELS.is_file() and PRORATION.is_file():

    def test_proration_agrees_with_other_systems() -> None:
        outcomes = run(read_vectors(PRORATION))

        assert [item for item in outcomes if item.status is not Status.PASSED] == []
        assert len(outcomes) > 150

    def test_prices_agree_with_all_other_systems() -> None:
        outcomes = run(read_vectors(PRICE_MODELS))

        assert [item for item in outcomes if item.status is not Status.PASSED] == []
        assert len(outcomes) > 250

    def test_all_shared_vectors_pass_or_contradict_this_system() -> None:
        outcomes = run(read_vectors(AGGREGATIONS))
        counts = Counter(item.status for item in outcomes)

        assert [item for item in outcomes if item.status is Status.FAILED] == []
        assert counts[Status.PASSED] + counts[Status.UNSUPPORTED] == len(outcomes) > 100
        assert counts[Status.UNSUPPORTED] <= len(outcomes) * 15 // 100

else:

    def test_says_that_the_vectors_are_absent() -> None:
        warnings.warn(f"NOT COMPARED with other billing systems: no vectors at {SHARED}", stacklevel=1)


class TestOutcomes:
    def test_a_right_answer_passes_and_a_wrong_one_fails(self) -> None:
        events = (("1", "05", "1.5"), ("2", "06", "2.50"), ("3", "06", None))

        assert outcome(vector("4.00", *events)).status is Status.PASSED
        failed = outcome(vector("4.01", *events))
        assert failed.status is Status.FAILED
        assert "expected '4.01', found '4'" in failed.detail

    def test_a_vector_that_breaks_its_runner_fails_and_hides_no_other(self) -> None:
        broken = vector("1", ("1", "05", "1"))
        del broken["input"]["period"]

        statuses = [item.status for item in run([broken, vector("1", ("1", "05", "1"))])]

        assert statuses == [Status.FAILED, Status.PASSED]

    @pytest.mark.parametrize("dedupe", ["id_last_wins", "id_and_timestamp_last_wins"])
    def test_last_write_wins_is_refused_only_where_it_changes_what_counts(self, dedupe: str) -> None:
        convention = {"dedupe": dedupe}
        same = (("1", "05", "1"), ("1", "05", "1"))
        other = (("1", "05", "1"), ("1", "05", "2"))

        assert outcome(vector("1", *same, convention=convention)).status is Status.PASSED
        assert outcome(vector("2", *other, convention=convention)).status is Status.UNSUPPORTED
        excluded = [{"v": ["1"]}, {"v": ["2"]}]
        assert outcome(vector("0", *other, convention=convention, exclude=excluded)).status is Status.PASSED
        count = vector("1", *other, convention=convention, aggregation="count", field=None)
        assert outcome(count).status is Status.PASSED

    def test_an_id_may_be_made_of_id_and_time(self) -> None:
        events = (("1", "05", "1"), ("1", "06", "2"))

        assert outcome(vector("3", *events, convention={"dedupe": "id_and_timestamp_last_wins"})).detail == ""
        assert outcome(vector("1", *events, convention={"dedupe": "id_first_wins"})).detail == ""

    def test_an_event_that_came_before_the_period_does_not_count_when_it_comes_again_in_it(self) -> None:
        repeated = vector("0", ("1", "05", "1"), ("1", "20", "1"))
        repeated["input"]["period"] = PERIOD | {"start": "2026-01-10T00:00:00Z"}

        assert outcome(repeated).detail == ""
        assert outcome(repeated | {"convention": {"dedupe": "id_last_wins"}}).status is Status.UNSUPPORTED

    def test_windows_ask_when_an_event_was(self) -> None:
        moved = vector("0", ("1", "05", "1"), ("1", "20", "1"), window="day", window_timezone="UTC")
        day = {"start": "2026-01-05T00:00:00Z", "end": "2026-01-06T00:00:00Z", "value": "1"}
        moved |= {"kind": "windows", "expected": {"windows": [day]}}

        assert outcome(moved).detail == ""
        assert outcome(moved | {"convention": {"dedupe": "id_last_wins"}}).status is Status.UNSUPPORTED

    def test_bad_numbers_are_refused_only_where_they_are_selected(self) -> None:
        convention = {"non_numeric": "ignore_event"}

        bad = outcome(vector("1", ("1", "05", "1"), ("2", "06", "x"), convention=convention))
        assert bad.status is Status.UNSUPPORTED
        assert bad.detail.startswith("bad_numbers_ignored")
        good = vector("1", ("1", "05", "1"), ("2", "06", "x"), convention=convention, filters={"v": ["1"]})
        assert outcome(good).status is Status.PASSED

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({"kind": "charge"}, "no_runner"),
            ({"group": "credits"}, "no_runner"),
        ],
    )
    def test_kinds_without_a_runner_are_unsupported(self, change: dict[str, Any], name: str) -> None:
        found = outcome(vector("1") | change)

        assert (found.status, found.detail.partition(":")[0]) == (Status.UNSUPPORTED, name)

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({"aggregation": "median"}, "no_such_option"),
            ({"bucket": "year"}, "no_such_option"),
            ({"rounding": {"mode": "half_even", "digits": 1}}, "rounding_mode"),
        ],
    )
    def test_options_that_do_not_exist_are_unsupported(self, given: dict[str, Any], name: str) -> None:
        found = outcome(vector("1", ("1", "05", "1"), **given))

        assert (found.status, found.detail.partition(":")[0]) == (Status.UNSUPPORTED, name)

    def test_more_of_the_schema(self) -> None:
        events = (("1", "05", "1.06"), ("2", "06", "2"), ("3", "20", "4"))

        rounding = {"mode": "ceil", "digits": 1}
        assert (
            outcome(vector("6.2", *events, as_of="2026-01-10T00:00:00Z", rounding=rounding, multiplier="2")).detail
            == ""
        )
        assert outcome(vector("9.06", ("0", "01", "2"), *events, carry_over=True)).detail == ""
        assert outcome(vector("7.06", *events, bucket="day")).detail == ""

    def test_every_reason_has_a_name_in_the_table(self) -> None:
        assert all(name.islower() and reason for name, reason in CONTRADICTIONS.items())


class TestDifferences:
    @pytest.mark.parametrize(
        ("expected", "found"),
        [
            ({"value": "4.50"}, {"value": "4.5", "more": 1}),
            ({"n": 3}, {"n": "3"}),
            ({"fraction": "14/28"}, {"fraction": "1/2"}),
            ({"fractions": ["3", "4/8"]}, {"fractions": ["3/1", "0.5"]}),
            ({"value": None}, {"value": None}),
            (
                {"groups": [{"group": {"a": None}, "value": "1"}, {"group": {"a": "b"}, "value": "2"}]},
                {"groups": [{"group": {"a": "b"}, "value": "2.0"}, {"group": {"a": None}, "value": "1"}]},
            ),
            ({"error": "missing"}, {"error": "MISSING_PROPERTY"}),
        ],
    )
    def test_equal(self, expected: dict[str, Any], found: dict[str, Any]) -> None:
        assert list(differences_of(expected, found)) == []

    @pytest.mark.parametrize(
        ("expected", "found"),
        [
            ({"value": "4.5"}, {"value": "4.51"}),
            ({"value": "4.5"}, {}),
            ({"fraction": "14/31"}, {"fraction": "0.451612903"}),
            ({"value": None}, {"value": "0"}),
            ({"value": "0"}, {"value": None}),
            ({"string": "1.0"}, {"string": "1"}),
            ({"groups": [{"group": {"a": "08"}}]}, {"groups": [{"group": {"a": "8"}}]}),
            ({"groups": [{"group": {"a": "1"}}]}, {"groups": [{"group": {"a": "1", "b": "2"}}]}),
            ({"groups": [{"value": "1"}]}, {"groups": [{"value": "1"}, {"value": "1"}]}),
            ({"groups": [{"value": "1"}, {"value": "1"}]}, {"groups": [{"value": "1"}, {"value": "2"}]}),
            ({"buckets": ["1", "2"]}, {"buckets": ["2", "1"]}),
            ({"error": "x"}, {"number": "1"}),
            ({"number": "1"}, {"error": "x"}),
        ],
    )
    def test_different(self, expected: dict[str, Any], found: dict[str, Any]) -> None:
        assert list(differences_of(expected, found)) != []


class TestCommand:
    def write(self, folder: Path, *vectors: dict[str, Any]) -> str:
        path = folder / "vectors.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in vectors), encoding="utf-8")
        return str(path)

    def test_counts_and_names(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = self.write(tmp_path, vector("1", ("1", "05", "1")), vector("1") | {"kind": "other", "id": "y"})

        assert main([path]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("unsupported: y: no_runner: ")
        assert lines[-1] == "1 passed, 0 failed, 1 unsupported"

    def test_a_failure_is_named_and_exits_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = self.write(tmp_path, vector("2", ("1", "05", "1")) | {"id": "wrong"})

        assert main([path]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines == ["failed: wrong: .value: expected '2', found '1'", "0 passed, 1 failed, 0 unsupported"]

    @pytest.mark.parametrize("text", ["{", "[]\n", '{"id": "x"}\n', "\udcff"])
    def test_a_bad_file_exits_2(self, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_bytes(text.encode(errors="surrogateescape"))

        assert main([str(path)]) == 2
        assert "bad.jsonl" in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["/no/such/file.jsonl"]])
    def test_bad_usage_exits_2(self, arguments: list[str]) -> None:
        assert main(arguments) == 2
