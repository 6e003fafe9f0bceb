"""Simulated lines in files."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from libs.cli.simulation_files import COLUMNS, rows_of, simulation_file
from steelyard.rating.v1 import simulation_service_pb2 as pb

PERIOD = pb.SimulatedPeriod(
    customer_id='cust, "1"',
    subscription_id="sub-1",
    rate_card_id="standard",
    rate_card_version=2,
    currency="USD",
    lines=[pb.SimulatedLine(price_id="fee", current_minor=0), pb.SimulatedLine(price_id="new", simulated_minor=-5)],
)
PERIOD.period.start.FromJsonString("2026-01-01T00:00:00Z")
PERIOD.period.end.FromJsonString("2026-02-01T00:00:00Z")


def test_what_a_card_has_no_price_for_is_empty_and_not_zero(tmp_path: Path) -> None:
    with simulation_file(tmp_path / "lines.csv") as file:
        file.add(list(rows_of(PERIOD)))

    with (tmp_path / "lines.csv").open(newline="") as written:
        rows = list(csv.DictReader(written))
    assert [(row["price_id"], row["current_minor"], row["simulated_minor"]) for row in rows] == [
        ("fee", "0", ""),
        ("new", "", "-5"),
    ]
    assert (rows[0]["customer_id"], rows[0]["period_start"]) == ('cust, "1"', "2026-01-01T00:00:00Z")
    assert tuple(rows[0]) == COLUMNS


def test_a_billing_period_with_a_problem_has_a_row_too() -> None:
    problem = pb.SimulatedPeriod(customer_id="cust-1", problem="CURRENCY_DIFFERS")
    (row,) = rows_of(problem)
    assert dict(zip(COLUMNS, row, strict=True))["problem"] == "CURRENCY_DIFFERS"


def test_an_empty_page_of_parquet_is_none(tmp_path: Path) -> None:
    with simulation_file(tmp_path / "lines.parquet") as file:
        file.add([])
    assert (tmp_path / "lines.parquet").stat().st_size


@pytest.mark.parametrize("name", ["lines.csv", "lines.parquet"])
def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path, name: str) -> None:
    def half_way() -> None:
        with simulation_file(tmp_path / name) as file:
            file.add(list(rows_of(PERIOD)))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        half_way()
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"), simulation_file(tmp_path / "lines.parquet"):
        pass
