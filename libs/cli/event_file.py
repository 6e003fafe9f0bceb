"""Files of usage events: JSON Lines and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from libs.cli.parsing import parse_instant
from steelyard import UsageEvent

_FIELDS = ("event_id", "event_type", "customer_id", "event_time", "source")


class EventFileError(ValueError):
    """A line that is no event; the message names the file and the line."""


def read_events(path: Path, event_type: str) -> Iterator[UsageEvent]:
    """Yield the events of a .jsonl or .csv file, in its order.

    JSON Lines: an object a line with event_id, event_type, customer_id, event_time (RFC 3339), source (optional) and
    `properties`, an object of text and numbers (kept exact). CSV: the same names as columns, every further column is a
    property; empty cells are left out. The id must be in the file: one made here would count twice when the file is
    sent again.

    :param event_type: used where the file names none
    :raises EventFileError: naming file and line
    """
    rows = _json_rows(path) if path.suffix in {".jsonl", ".ndjson", ".json"} else _csv_rows(path)
    for line, row in rows:
        try:
            yield _event(row, event_type)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise EventFileError(f"{path}:{line}: {reason}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_float=Decimal)
            except ValueError as error:
                raise EventFileError(f"{path}:{number}: {error}") from error
            if not isinstance(row, dict):
                raise EventFileError(f"{path}:{number}: not an object")
            yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        for cells in reader:
            if "" in cells:
                raise EventFileError(f"{path}:{reader.line_num}: more cells than columns")
            row: dict[str, Any] = {name: cells[name] for name in _FIELDS if cells.get(name)}
            row["properties"] = {name: value for name, value in cells.items() if name not in _FIELDS and value}
            yield reader.line_num, row


def _event(row: dict[str, Any], event_type: str) -> UsageEvent:
    time = row["event_time"]
    return UsageEvent(
        event_id=row["event_id"],
        event_type=row.get("event_type") or event_type,
        customer_id=row["customer_id"],
        event_time=time if isinstance(time, datetime) else parse_instant(time),
        source=row.get("source", ""),
        properties=row.get("properties", {}),
    )
