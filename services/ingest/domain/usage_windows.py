"""Sums per 15-minute window, meter, customer and group."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson

from libs.money import QUANTITY_CONTEXT
from libs.periods import WINDOW
from services.ingest.domain.measuring import MeterReading
from services.ingest.domain.usage_batch import NANOSECONDS, UsageColumns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOW_NS = WINDOW // timedelta(seconds=1) * NANOSECONDS
_ZERO = Decimal(0)

_Group = tuple[str, str, int, tuple[str | None, ...]]
# Meter, customer, number of the window since 1970, value (None if missing) per dimension of the meter.


@dataclass(frozen=True, slots=True)
class WindowChange:
    """What newly recorded events add to one window.

    `key` (16 bytes) identifies the window within its tenant, `dimensions` is canonical JSON. `trace_parent` is the
    W3C context of the last sampled batch in it, or empty.
    """

    key: bytes
    meter_id: str
    customer_id: str
    start: datetime
    dimensions: str
    value: Decimal
    event_count: int
    trace_parent: str


class WindowSums:
    """Adds up what the recorded events of one tenant's batches measured."""

    def __init__(self) -> None:
        self._sums: dict[_Group, Decimal] = {}
        self._counts: dict[_Group, int] = {}
        self._traces: dict[_Group, str] = {}
        self._dimensions: dict[str, tuple[str, ...]] = {}

    def add(
        self, events: UsageColumns, readings: Sequence[MeterReading], recorded: Container[int], trace_parent: str
    ) -> None:
        """Add the readings of those events whose index is in `recorded`.

        :raises decimal.DecimalException: if a sum leaves the range of quantities
        """
        add = QUANTITY_CONTEXT.add
        sums, counts, traces = self._sums, self._counts, self._traces
        customers, times, properties = events.customer_ids, events.times_ns, events.properties
        for reading in readings:
            meter_id, group_by = reading.meter.meter_id, reading.meter.group_by
            self._dimensions[meter_id] = group_by
            for row, value in zip(reading.rows, reading.values, strict=True):
                if row not in recorded:
                    continue
                values = tuple(map(properties[row].get, group_by)) if group_by else ()
                group = (meter_id, customers[row], times[row] // _WINDOW_NS, values)
                sums[group] = add(sums.get(group, _ZERO), value)
                counts[group] = counts.get(group, 0) + 1
                if trace_parent:
                    traces[group] = trace_parent

    def changes(self) -> list[WindowChange]:
        """Return the sums, ordered by the key of their window."""
        return sorted((self._change(group, value) for group, value in self._sums.items()), key=lambda item: item.key)

    def _change(self, group: _Group, value: Decimal) -> WindowChange:
        meter_id, customer_id, number, values = group
        dimensions = canonical_dimensions(zip(self._dimensions[meter_id], values, strict=True))
        return WindowChange(
            key=_window_key(meter_id, customer_id, number, dimensions),
            meter_id=meter_id,
            customer_id=customer_id,
            start=_EPOCH + number * WINDOW,
            dimensions=dimensions,
            value=value,
            event_count=self._counts[group],
            trace_parent=self._traces.get(group, ""),
        )


def canonical_dimensions(values: Iterable[tuple[str, str | None]]) -> str:
    """The dimensions that the events have as JSON: keys sorted, no blanks; equal groups give equal text."""
    present = {name: value for name, value in values if value is not None}
    return orjson.dumps(present, option=orjson.OPT_SORT_KEYS).decode() if present else "{}"


def _window_key(meter_id: str, customer_id: str, number: int, dimensions: str) -> bytes:
    """BLAKE2b-128, because eight long dimensions would not fit into a row of an index. Stored: never changes."""
    content = orjson.dumps((meter_id, customer_id, number, dimensions))
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """The stored state of a window; `version` grows with every change."""

    key: bytes
    meter_id: str
    customer_id: str
    start: datetime
    dimensions: Mapping[str, str]
    value: Decimal
    event_count: int
    version: int
    trace_parent: str
