"""Figures, percentiles, the table and the files of the benchmarks. Nothing here measures time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Figure, Report, percentile, table_rows, write_json


def a_report(*figures: Figure) -> Report:
    return Report(
        benchmark="recorded",
        figures=figures,
        settings={"in_flight": 8},
        workload={"events": 1000},
        elapsed_s=0.5,
        cpu_s={"ingest-record": 0.4},
    )


class TestPercentile:
    @pytest.mark.parametrize(
        ("percent", "expected"), [(0.1, 1), (50, 50), (98.5, 99), (99, 99), (99.1, 100), (100, 100)]
    )
    def test_is_the_nearest_rank(self, percent: float, expected: float) -> None:
        values = [float(value) for value in range(100, 0, -1)]
        assert percentile(values, percent) == expected

    def test_of_few_values_is_one_of_them(self) -> None:
        assert percentile([0.7, 0.3], 50) == 0.3
        assert percentile([0.7, 0.3], 99) == 0.7
        assert percentile([0.3], 50) == 0.3

    @pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 100.5)])
    def test_of_nothing_is_refused(self, values: list[float], percent: float) -> None:
        with pytest.raises(ValueError, match=r"no values|not a percentage"):
            percentile(values, percent)


class TestRatio:
    @pytest.mark.parametrize(
        ("value", "floor", "expected"), [(50.0, 200.0, 0.25), (3.0, 2.0, 1.5), (3.0, None, None), (3.0, 0.0, None)]
    )
    def test_is_value_by_floor(self, value: float, floor: float | None, expected: float | None) -> None:
        assert Figure("x", value, "events/s", floor).ratio == expected


class TestTable:
    def test_has_a_row_per_figure(self) -> None:
        report = a_report(
            Figure("recorded", 25_123.4, "events/s", 100_000.0, "bare COPY"),
            Figure("p99", 1.2345, "s"),
            Figure("n", 0, ""),
        )
        assert table_rows([report, report])[:3] == [
            ("recorded", "recorded", "25,123 events/s", "100,000 events/s", "0.25"),
            ("recorded", "p99", "1.23 s", "-", "-"),
            ("recorded", "n", "0 ", "-", "-"),
        ]


class TestFile:
    def test_has_the_figures_and_what_they_depend_on(self, tmp_path: Path) -> None:
        report = a_report(Figure("recorded", 50.0, "events/s", 200.0, "bare COPY"), Figure("p99", 1.5, "s"))

        path = write_json(report, {"cores": 2}, tmp_path / "results")

        assert path == tmp_path / "results" / "recorded.json"
        assert json.loads(path.read_text()) == {
            "benchmark": "recorded",
            "figures": [
                {
                    "name": "recorded",
                    "value": 50.0,
                    "unit": "events/s",
                    "floor": 200.0,
                    "floor_is": "bare COPY",
                    "ratio": 0.25,
                },
                {"name": "p99", "value": 1.5, "unit": "s", "floor": None, "floor_is": "", "ratio": None},
            ],
            "settings": {"in_flight": 8},
            "workload": {"events": 1000},
            "elapsed_s": 0.5,
            "cpu_s": {"ingest-record": 0.4},
            "machine": {"cores": 2},
        }

    def test_replaces_the_earlier_one(self, tmp_path: Path) -> None:
        write_json(a_report(Figure("recorded", 1.0, "events/s"), Figure("p99", 1.5, "s")), {}, tmp_path)
        path = write_json(a_report(Figure("recorded", 2.0, "events/s")), {}, tmp_path)
        assert [figure["value"] for figure in json.loads(path.read_text())["figures"]] == [2.0]
