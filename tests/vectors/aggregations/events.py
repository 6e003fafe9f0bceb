"""Events of vectors as usage columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services.ingest.domain.usage_batch import NANOSECONDS, UsageColumns

EVENT_TYPE = "usage"
OPERATION = "operation"
"""The property that holds what the vectors keep beside the properties."""

Event = Mapping[str, Any]


def time_ns(text: str) -> int:
    """Of RFC 3339 in UTC, to the nanosecond."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * NANOSECONDS + int(Decimal(f"0.{fraction or 0}") * NANOSECONDS)


def properties_of(given: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """As events have them: texts under dotted names. What is null is not there."""
    found: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, dict):
            found |= properties_of(value, f"{path}{name}.")
        elif isinstance(value, bool):
            found[path + name] = "true" if value else "false"
        elif value is not None:
            found[path + name] = str(value)
    return found


def usage_columns(events: Sequence[Event]) -> UsageColumns:
    count = len(events)
    properties = [properties_of(event["properties"]) for event in events]
    for found, event in zip(properties, events, strict=True):
        if event.get("operation") is not None:
            found[OPERATION] = event["operation"]
    return UsageColumns(
        event_ids=[str(event["id"]) for event in events],
        sources=["vectors"] * count,
        event_types=[EVENT_TYPE] * count,
        customer_ids=["customer"] * count,
        times_ns=[time_ns(event["timestamp"]) for event in events],
        properties=properties,
    )


def without_duplicates(events: Sequence[Event], dedupe: str, *, last: bool) -> list[Event]:
    """One event of each identity, the first one or the last one, where the first one was.

    Producers choose the ids of events: where identity is id and time, they make an id of both.
    """
    kept: dict[tuple[str, ...], Event] = {}
    for event in events:
        key = (str(event["id"]), event["timestamp"]) if dedupe.startswith("id_and_timestamp") else (str(event["id"]),)
        if last or key not in kept:
            kept[key] = event
    return list(kept.values())
