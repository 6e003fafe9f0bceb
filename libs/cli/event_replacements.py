"""Files of replacements: usage events that say in whose place they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from libs.cli.event_file import EventFileError
from libs.cli.event_of_row import event_of, not_an_event
from libs.cli.event_rows import START, RowError, Rows, csv_rows, json_rows
from steelyard.ingest.v1 import correction_service_pb2, usage_service_pb2

_REPLACES, _REPLACES_SOURCE = "replaces", "replaces_source"
_REQUIRED = (_REPLACES, "customer_id", "event_time")
_DERIVED = "derived"
"""Stands for an id that the server derives, while an event is read that has none."""


def read_replacements(
    path: Path, event_type: str, source: str
) -> Iterator[tuple[int, correction_service_pb2.Replacement]]:
    """Yield the replacements of a file of CSV or JSON Lines, each with its line.

    :param event_type: of events that name none
    :param source: of originals, where neither `replaces_source` nor the event's own says it
    :raises EventFileError: naming file and line
    """
    try:
        with path.open("rb") as file:
            is_csv = path.suffix.lower() == ".csv"
            fields = {_REPLACES, _REPLACES_SOURCE}
            rows: Rows = csv_rows(file, START, _REQUIRED) if is_csv else json_rows(file, START, fields)
            for line, row, _ in rows:
                if is_csv:  # There, what is no field of an event is a property.
                    row |= {name: row["properties"].pop(name) for name in fields & row["properties"].keys()}
                with not_an_event(line):
                    yield line, _replacement_of(row, event_type, source)
    except RowError as error:
        raise EventFileError(f"{path}:{error.line}: {error}") from error


def _replacement_of(row: dict[str, Any], event_type: str, source: str) -> correction_service_pb2.Replacement:
    original = _text(row, _REPLACES)
    if not original:
        raise ValueError(f"{_REPLACES} is missing")
    event = event_of({**row, "event_id": row.get("event_id") or _DERIVED}, event_type).to_pb("")
    if not row.get("event_id"):
        event.ClearField("event_id")
    key = usage_service_pb2.EventKey(source=_text(row, _REPLACES_SOURCE) or event.source or source, event_id=original)
    return correction_service_pb2.Replacement(original=key, event=event)


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name, "")
    if type(value) is not str:
        raise TypeError(f"{name} must be text")
    return value
