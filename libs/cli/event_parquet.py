"""Parquet files of usage events, read in batches, so that files of any size need little memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from libs.cli.event_columns import PROPERTIES, CellRefused, ColumnReader, ColumnRefused, ColumnRules
from libs.cli.event_rows import FIELDS, Mark, Row, RowError, repeated_names

_BATCH_ROWS = 1_000


class ParquetUnreadable(ValueError):
    """A file that is not Parquet, has a column that cannot be sent, or Parquet where nothing can read it."""


class ParquetReader:
    """A Parquet file. Columns are those of a CSV; `properties` may be a map or a struct of text and numbers instead."""

    def __init__(self, path: Path, rules: ColumnRules, required: Sequence[str]) -> None:
        """
        :raises ParquetUnreadable: naming the column at fault
        :raises OSError: if the file cannot be read
        """
        self._arrow, parquet = _pyarrow()
        self._columns = ColumnReader(self._arrow, rules)
        try:
            self._file = parquet.ParquetFile(path, memory_map=False, pre_buffer=False)
        except self._arrow.ArrowException as error:
            raise ParquetUnreadable(f"not a Parquet file: {error}") from error
        self._check(self._file.schema_arrow.names, required)

    @property
    def rows_total(self) -> int:
        return int(self._file.metadata.num_rows)

    def rows(self, start: Mark) -> Iterator[Row]:
        """Yield the rows from `start`, of which the offset is the number of rows before it.

        :raises RowError: for a row, ParquetUnreadable: for a column
        """
        first = 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if first + count > start.offset:
                yield from self._rows_of_group(group, first, start.offset)
            first += count

    def _rows_of_group(self, group: int, first: int, start: int) -> Iterator[Row]:
        batches = self._file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (self._arrow.ArrowException, OSError) as error:
                raise RowError(first + 1, f"cannot be read: {error}") from error
            if batch is None:
                return
            if first + batch.num_rows > start:
                yield from self._rows_of_batch(batch, first, max(start - first, 0))
            first += batch.num_rows

    def _rows_of_batch(self, batch: Any, first: int, skipped: int = 0) -> Iterator[Row]:
        try:
            columns = {
                name: self._columns.texts(name, column)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
                if name != PROPERTIES
            }
            nested = self._columns.members(batch.column(PROPERTIES)) if PROPERTIES in batch.schema.names else None
        except ColumnRefused as refused:
            raise ParquetUnreadable(str(refused)) from refused
        except CellRefused as refused:
            raise RowError(first + refused.index + 1, str(refused)) from refused
        fields = {name: columns.pop(name) for name in FIELDS if name in columns}
        for index in range(skipped, batch.num_rows):
            number = first + index + 1
            row: dict[str, Any] = {name: texts[index] for name, texts in fields.items() if texts[index] is not None}
            properties: dict[str, Any] = {
                name: texts[index] for name, texts in columns.items() if texts[index] is not None
            }
            if nested is not None:
                properties = _joined(number, properties, nested[index] or [])
            yield Row(number, row | {"properties": properties}, Mark(number, number + 1))

    def _check(self, names: list[str], required: Sequence[str]) -> None:
        if repeated := repeated_names(names):
            raise ParquetUnreadable(f"columns that are there twice: {repeated}")
        if missing := [name for name in required if name not in names]:
            raise ParquetUnreadable(f"no column {', '.join(missing)}; the columns are {', '.join(names)}")
        # A stretch without rows shows what becomes of every column, before anything is sent.
        empty = self._arrow.RecordBatch.from_pylist([], schema=self._file.schema_arrow)
        list(self._rows_of_batch(empty, 0))


def _joined(number: int, properties: dict[str, Any], members: list[tuple[str, str]]) -> dict[str, Any]:
    names = [*properties, *(name for name, _ in members)]
    if repeated := repeated_names(names):
        raise RowError(number, f"properties that are there twice: {repeated}")
    return properties | dict(members)


def _pyarrow() -> tuple[Any, Any]:
    try:
        # Imported here: it is large, and only files of this format need it.
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ParquetUnreadable("reading Parquet needs pyarrow: pip install pyarrow") from error
