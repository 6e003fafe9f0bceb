"""Files of usage events: JSON Lines and CSV, read line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from libs.cli.event_rows import FIELDS, REQUIRED, RowError, Rows, csv_rows, json_rows
from libs.cli.parsing import parse_instant
from steelyard import UsageEvent

_JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
_LARGEST_EVENT_BYTES = 700_000  # Ingest takes 768 kB in one call.


class EventFileError(ValueError):
    """A file or line that holds no event; the message names both."""


def read_events(path: Path, event_type: str) -> Iterator[UsageEvent]:
    """Yield the events of a .jsonl or .csv file, in its order.

    JSON Lines: an object a line with event_id, event_type, customer_id, event_time (RFC 3339), source (optional) and
    `properties`, an object of text and numbers (sent as they are written). CSV: the same names as columns, every
    further column is a property; empty cells are left out. The id must be in the file: one made here would count twice
    when the file is sent again.

    :param event_type: used where the file names none
    :raises EventFileError: naming file and line
    :raises OSError: if the file cannot be read
    """
    suffix = path.suffix.lower()
    if suffix != ".csv" and suffix not in _JSON_SUFFIXES:
        raise EventFileError(f"{path}: the name must end in .csv or .jsonl, which says how to read it")
    # What is not UTF-8 becomes lone surrogates, which no event can hold: so it is found where its line is known.
    newline = "" if suffix == ".csv" else None
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        try:
            yield from _events(csv_rows(file) if suffix == ".csv" else json_rows(file), event_type)
        except RowError as error:
            raise EventFileError(f"{path}:{error.line}: {error}") from error


def _events(rows: Rows, event_type: str) -> Iterator[UsageEvent]:
    for line, row in rows:
        try:
            event = _event(row, event_type)
            # Encoded and thrown away: when it is sent, nobody knows its line any more.
            size_bytes = event.to_pb("").ByteSize()
        except UnicodeEncodeError as error:
            raise RowError(line, "not UTF-8 text") from error
        except (TypeError, ValueError) as error:
            raise RowError(line, str(error)) from error
        if size_bytes > _LARGEST_EVENT_BYTES:
            raise RowError(line, f"an event of {size_bytes:,} bytes; {_LARGEST_EVENT_BYTES:,} is the limit")
        yield event


def _event(row: Mapping[str, Any], event_type: str) -> UsageEvent:
    fields = {name: _text(row, name) for name in FIELDS}
    fields["event_type"] = fields["event_type"] or event_type
    if missing := [name for name in (*REQUIRED, "event_type") if not fields[name]]:
        raise ValueError(f"{', '.join(missing)} is missing")
    properties = row.get("properties", {})
    if not isinstance(properties, dict):
        raise TypeError("properties must be an object")
    return UsageEvent(
        event_id=fields["event_id"],
        event_type=fields["event_type"],
        customer_id=fields["customer_id"],
        event_time=parse_instant(fields["event_time"]),
        source=fields["source"],
        properties={name: _value(name, value) for name, value in properties.items()},
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise TypeError(f"{name} must be text")
    return value


def _value(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"properties.{name} must be text or a number")
    return str(value)  # A number as it is written.
