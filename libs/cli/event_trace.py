"""What meters made of an event, as a table or a document."""

from __future__ import annotations

from typing import Any

from libs.cli.output import Columns, as_dict, instant, table
from steelyard.ingest.v1 import usage_service_pb2 as pb

_MATCHED: Columns = {
    "METER": lambda item: item.meter_id,
    "VALUE": lambda item: f"{item.value} {item.unit}".rstrip(),
    "WINDOW": lambda item: f"{instant(item.window.start)} to {instant(item.window.end)}",
    "DIMENSIONS": lambda item: ", ".join(f"{key}={item.dimensions[key]}" for key in sorted(item.dimensions)) or "-",
    "QUANTITY FROM": lambda item: "windows" if item.counted_by_window else "the log",
}
_UNMATCHED: Columns = {
    "NOT COUNTED BY": lambda item: item.meter_id,
    "WHY": lambda item: f"{item.reason} {item.property}".rstrip(),
}


def show_meters(trace: pb.EventTrace) -> None:
    """Print which meters measured something in an event, and why the others of its type did not."""
    for columns, items in ((_MATCHED, trace.matched), (_UNMATCHED, trace.unmatched)):
        if items:
            table(columns.keys(), ([cell(item) for cell in columns.values()] for item in items))


def meters_of(trace: pb.EventTrace) -> dict[str, Any]:
    """The same as a document."""
    return {
        "matched": [as_dict(item) for item in trace.matched],
        "unmatched": [as_dict(item) for item in trace.unmatched],
    }
