"""The rows of files of usage events: lines of JSON or CSV, each with the number of the line it starts on."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, NoReturn

REQUIRED = ("event_id", "customer_id", "event_time")
FIELDS = (*REQUIRED, "event_type", "source")
# A file that is something else must not be read into memory as one line. Ingest takes 768 kB in one call.
_LONGEST_LINE = 1 << 20

Rows = Iterator[tuple[int, dict[str, Any]]]
"""Line numbers, each with the fields by name, and `properties`."""


class RowError(ValueError):
    """A line that is no row."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class JsonNumber(str):
    """A number of a JSON file as it is written there: no digit is lost, no exponent is carried out."""

    __slots__ = ()


def json_rows(file: IO[str]) -> Rows:
    """Yield the objects of JSON Lines.

    :raises RowError: also for a key that is unknown or there twice: what would be ignored may be what is billed
    """
    for number, line in enumerate(_lines(file), start=1):
        if line.isspace():
            continue
        try:
            row = _JSON.decode(line.rstrip("\n"))
        except json.JSONDecodeError as error:
            raise RowError(number, f"not JSON: {error.msg} at column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise RowError(number, str(error)) from error
        if not isinstance(row, dict):
            raise RowError(number, "not an object; each line holds one event")
        if unknown := sorted(row.keys() - {*FIELDS, "properties"}):
            raise RowError(number, f"unknown: {', '.join(unknown)}; what is measured goes into properties")
        yield number, row


def csv_rows(file: IO[str]) -> Rows:
    """Yield the rows of CSV with a header; columns other than FIELDS are properties, empty cells are left out.

    :raises RowError: if the header or a row is not as it should be
    """
    columns: list[str] | None = None
    for line, cells in _records(file):
        if columns is None:
            columns = _header(line, cells)
        elif len(cells) != len(columns):
            raise RowError(line, f"{len(cells)} cells, but the header has {len(columns)}")
        else:
            filled = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
            row: dict[str, Any] = {name: filled.pop(name) for name in FIELDS if name in filled}
            yield line, row | {"properties": filled}
    if columns is None:
        raise RowError(1, "no header")


def _lines(file: IO[str]) -> Iterator[str]:
    number = 1
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise RowError(number, f"longer than {_LONGEST_LINE:,} characters")
        yield line
        number += 1


def _records(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_lines(file), strict=True)
    while True:
        line = reader.line_num + 1  # A record may go on over several lines; its first one is where to look.
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise RowError(line, str(error)) from error
        if cells:
            yield line, cells


def _header(line: int, cells: list[str]) -> list[str]:
    if "" in cells:
        raise RowError(line, f"column {cells.index('') + 1} has no name")
    if repeated := _repeated(cells):
        raise RowError(line, f"columns that are there twice: {repeated}")
    if missing := [name for name in REQUIRED if name not in cells]:
        raise RowError(line, f"no column {', '.join(missing)}; the columns are {', '.join(cells)}")
    return cells


def _repeated(names: Iterable[str]) -> str:
    return ", ".join(name for name, count in Counter(names).items() if count > 1)


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := _repeated(name for name, _ in items):
        raise ValueError(f"keys that are there twice: {repeated}")
    return dict(items)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


_JSON = json.JSONDecoder(
    parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=_no_number, object_pairs_hook=_object
)
