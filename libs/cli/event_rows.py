"""The rows of text files of usage events: lines of JSON or CSV, and where each begins and ends."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from steelyard.cloud_events_json import EXACT_JSON, RepeatedNames

REQUIRED = ("event_id", "customer_id", "event_time")
FIELDS = (*REQUIRED, "event_type", "source")
LONGEST_LINE_BYTES = 1 << 20
"""A file that is something else must not be read into memory as one line. Ingest takes 768 kB in one call."""
_BOM = b"\xef\xbb\xbf"


class Mark(NamedTuple):
    """Where reading goes on: at a byte of the file, decompressed (of Parquet: at a row), which is in this line."""

    offset: int
    line: int


START = Mark(0, 1)


class Row(NamedTuple):
    """The line that a row starts in, its fields by name with `properties`, and where the next one starts."""

    line: int
    fields: dict[str, Any]
    end: Mark


Rows = Iterator[Row]


class RowError(ValueError):
    """A line that is no row."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Lines:
    """The lines of a file, and where the reading stands. What is not UTF-8 becomes lone surrogates, which no event can
    hold: so it is found where its line is known."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.mark = START

    def go_on_at(self, mark: Mark) -> None:
        """Go to a mark behind this one. Only then is the file asked to seek, which a pipe cannot."""
        if mark.offset > self.mark.offset:
            self._file.seek(mark.offset)
            self.mark = mark

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LONGEST_LINE_BYTES + 1):
            if len(line) > LONGEST_LINE_BYTES:
                raise RowError(self.mark.line, f"longer than {LONGEST_LINE_BYTES:,} bytes")
            start, self.mark = self.mark, Mark(self.mark.offset + len(line), self.mark.line + 1)
            yield (line.removeprefix(_BOM) if start == START else line).decode(errors="surrogateescape")


def json_rows(file: IO[bytes], start: Mark, more_fields: Iterable[str] = ()) -> Rows:
    """Yield the objects of JSON Lines; `more_fields` may be beside those of an event.

    :raises RowError: also for a key that is unknown or there twice: what would be ignored may be what is billed
    """
    lines = Lines(file)
    lines.go_on_at(start)
    for line in lines:
        number = lines.mark.line - 1
        if line.isspace():
            continue
        try:
            row = EXACT_JSON.decode(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            raise RowError(number, f"not JSON: {error.msg} at column {error.colno}") from error
        except RecursionError as error:
            raise RowError(number, "too deeply nested") from error
        if not isinstance(row, dict):
            raise RowError(number, "not an object; each line holds one event")
        for item in (row, row.get("properties")):
            if isinstance(item, RepeatedNames):
                raise RowError(number, f"keys that are there twice: {', '.join(item.repeated)}")
        if "specversion" in row:
            raise RowError(number, "a CloudEvent: say --format cloudevents")
        if unknown := sorted(row.keys() - {*FIELDS, "properties", *more_fields}):
            raise RowError(number, f"unknown: {', '.join(unknown)}; what is measured goes into properties")
        yield Row(number, row, lines.mark)


def csv_rows(file: IO[bytes], start: Mark, required: Iterable[str]) -> Rows:
    """Yield the rows of CSV with a header; columns other than FIELDS are properties, empty cells are left out.

    :raises RowError: if the header or a row is not as it should be
    """
    lines = Lines(file)
    for line, cells in _records(lines):
        columns = _header(line, cells, required)
        break
    else:
        raise RowError(1, "no header")
    lines.go_on_at(start)
    for line, cells in _records(lines):
        if len(cells) != len(columns):
            raise RowError(line, f"{len(cells)} cells, but the header has {len(columns)}")
        filled = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
        row: dict[str, Any] = {name: filled.pop(name) for name in FIELDS if name in filled}
        yield Row(line, row | {"properties": filled}, lines.mark)


def _records(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, strict=True)
    while True:
        line = lines.mark.line  # A record may go on over several lines; its first one is where to look.
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise RowError(line, str(error)) from error
        if cells:
            yield line, cells


def _header(line: int, cells: list[str], required: Iterable[str]) -> list[str]:
    if "" in cells:
        raise RowError(line, f"column {cells.index('') + 1} has no name")
    if repeated := repeated_names(cells):
        raise RowError(line, f"columns that are there twice: {repeated}")
    if missing := [name for name in required if name not in cells]:
        raise RowError(line, f"no column {', '.join(missing)}; the columns are {', '.join(cells)}")
    return cells


def repeated_names(names: Iterable[str]) -> str:
    """Return the names that are there more than once, as text."""
    return ", ".join(name for name, count in Counter(names).items() if count > 1)
