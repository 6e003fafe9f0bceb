"""Figures with their floors, and how they are printed and written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `floor` is the same work by the bare server, in the same unit; None where there is none."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""

    @property
    def ratio(self) -> float | None:
        """Value by floor; None without a floor, or with one of zero."""
        return self.value / self.floor if self.floor else None


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark measured, under which settings. `cpu_s` is CPU time by process while it was measured."""

    benchmark: str
    figures: Sequence[Figure]
    settings: Mapping[str, Value]
    workload: Mapping[str, Value]
    elapsed_s: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` % of all values do not exceed (nearest rank).

    :raises ValueError: if there are no values, or `percent` is not above 0 and at most 100
    """
    if not values:
        raise ValueError("no values")
    if not 0 < percent <= 100:
        raise ValueError(f"not a percentage above 0: {percent}")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def table_rows(reports: Sequence[Report]) -> list[tuple[str, str, str, str, str]]:
    """One row per figure: benchmark, figure, value with unit, floor, ratio. What there is none of is a dash."""
    return [
        (
            report.benchmark,
            figure.name,
            f"{_number(figure.value)} {figure.unit}",
            "-" if figure.floor is None else f"{_number(figure.floor)} {figure.unit}",
            "-" if figure.ratio is None else f"{figure.ratio:.2f}",
        )
        for report in reports
        for figure in report.figures
    ]


def write_json(report: Report, machine: Mapping[str, Value], directory: Path) -> Path:
    """Write the report to `<directory>/<benchmark>.json`, replacing what is there, and return the path."""
    content = asdict(report) | {"machine": dict(machine)}
    for figure, written in zip(report.figures, content["figures"], strict=True):
        written["ratio"] = figure.ratio
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{report.benchmark}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _number(value: float) -> str:
    """Three significant digits below a hundred, whole numbers above: more would pretend to be precise."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
