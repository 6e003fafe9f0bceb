"""Simulated lines as CSV or Parquet, written page by page."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from libs.cli.output import instant
from steelyard.rating.v1 import simulation_service_pb2 as pb

TEXTS = (
    "customer_id",
    "subscription_id",
    "period_start",
    "period_end",
    "rate_card_id",
    "rate_card_version",
    "currency",
    "price_id",
    "problem",
)
AMOUNTS = ("current_minor", "simulated_minor")
COLUMNS = (*TEXTS, *AMOUNTS)
Row = tuple[str | int | None, ...]


class RowFile(Protocol):
    """A file that rows of COLUMNS are added to."""

    def add(self, rows: Sequence[Row]) -> None: ...


@contextmanager
def simulation_file(path: Path) -> Iterator[RowFile]:
    """Write a file, Parquet if its name ends so and CSV otherwise, which is there only if all was written.

    :raises OSError: if it cannot be written
    :raises ValueError: if there is nothing to write Parquet with
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with _Parquet(partial) if path.suffix == ".parquet" else _Csv(partial) as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def rows_of(period: pb.SimulatedPeriod) -> Iterator[Row]:
    """A row per line, and one without a price for a billing period with a problem."""
    whose = (
        *(period.customer_id, period.subscription_id, instant(period.period.start), instant(period.period.end)),
        *(period.rate_card_id, str(period.rate_card_version), period.currency),
    )
    if period.problem:
        yield (*whose, "", period.problem, None, None)
    for line in period.lines:
        current = line.current_minor if line.HasField("current_minor") else None
        simulated = line.simulated_minor if line.HasField("simulated_minor") else None
        yield (*whose, line.price_id, "", current, simulated)


class _Csv:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def add(self, rows: Sequence[Row]) -> None:
        self._writer.writerows(rows)

    def __enter__(self) -> _Csv:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise ValueError("writing Parquet needs pyarrow: pip install pyarrow") from error
        kinds = [(name, self._arrow.string()) for name in TEXTS] + [(name, self._arrow.int64()) for name in AMOUNTS]
        self._schema = self._arrow.schema(kinds)
        self._writer = parquet.ParquetWriter(path, self._schema)

    def add(self, rows: Sequence[Row]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in COLUMNS]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
