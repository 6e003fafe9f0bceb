"""The usage event that a row of a file means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from libs.cli.event_rows import FIELDS, REQUIRED, RowError
from libs.cli.parsing import parse_instant
from steelyard import UsageEvent
from steelyard.cloud_events_json import property_text
from steelyard.cloud_events_time import with_nanosecond

_BEYOND_MICROSECONDS = re.compile(r"\.[0-9]{6}([0-9]{1,3})")


def event_of(row: Mapping[str, Any], event_type: str) -> UsageEvent:
    """Return the event of a row's fields, with its instant to the nanosecond.

    :param event_type: used where the row names none
    :raises TypeError, ValueError: saying what is wrong with it
    """
    fields = {name: _text(row, name) for name in FIELDS}
    fields["event_type"] = fields["event_type"] or event_type
    if missing := [name for name in (*REQUIRED, "event_type") if not fields[name]]:
        raise ValueError(f"{', '.join(missing)} is missing")
    properties = row.get("properties", {})
    if not isinstance(properties, dict):
        raise TypeError("properties must be an object")
    event = UsageEvent(
        event_id=fields["event_id"],
        event_type=fields["event_type"],
        customer_id=fields["customer_id"],
        event_time=parse_instant(fields["event_time"]),
        source=fields["source"],
        properties={name: _value(name, value) for name, value in properties.items()},
    )
    digits = _BEYOND_MICROSECONDS.search(fields["event_time"])
    nanosecond = int(digits[1].ljust(3, "0")) if digits else 0
    return with_nanosecond(event, nanosecond) if nanosecond else event


@contextmanager
def not_an_event(line: int) -> Iterator[None]:
    """Turn what is wrong with an event into a RowError with its line."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RowError(line, "not UTF-8 text") from error
    except (TypeError, ValueError) as error:
        raise RowError(line, str(error)) from error


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise TypeError(f"{name} must be text")
    return value


def _value(name: str, value: object) -> str:
    try:
        return property_text(value)
    except TypeError as error:
        raise TypeError(f"properties.{name}: {error}") from error
