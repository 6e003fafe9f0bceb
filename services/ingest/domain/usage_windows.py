"""Sums per 15-minute window, meter, customer and group."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
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

GroupKey = tuple[str, str, int, tuple[str | None, ...]]
"""Meter, customer, window number since 1970, value (None if missing) per dimension of the meter."""


@dataclass(frozen=True, slots=True)
class WindowChange:
    """What newly recorded events add to one window; `dimensions` is canonical JSON (`canonical_dimensions`)."""

    meter_id: str
    customer_id: str
    window_start: datetime
    dimensions: str
    dimensions_key: bytes
    value: Decimal
    event_count: int


class WindowSums:
    """Adds up what the recorded events of one tenant's batches measured."""

    def __init__(self) -> None:
        self._sums: dict[GroupKey, Decimal] = {}
        self._counts: dict[GroupKey, int] = {}
        self._dimensions: dict[str, tuple[str, ...]] = {}

    def add(self, events: UsageColumns, readings: Sequence[MeterReading], recorded: Container[int]) -> None:
        """Add the readings of those events whose index is in `recorded`.

        :raises decimal.DecimalException: if a sum leaves the range of quantities
        """
        add = QUANTITY_CONTEXT.add
        sums, counts = self._sums, self._counts
        customers, times, properties = events.customer_ids, events.times_ns, events.properties
        for reading in readings:
            meter_id, group_by = reading.meter.meter_id, reading.meter.group_by
            self._dimensions[meter_id] = group_by
            for row, value in zip(reading.rows, reading.values, strict=True):
                if row not in recorded:
                    continue
                group = tuple(map(properties[row].get, group_by)) if group_by else ()
                key = (meter_id, customers[row], times[row] // _WINDOW_NS, group)
                sums[key] = add(sums.get(key, _ZERO), value)
                counts[key] = counts.get(key, 0) + 1

    def changes(self) -> list[WindowChange]:
        """Return the sums, in the order in which windows are locked."""
        changes = [
            WindowChange(
                meter_id=meter_id,
                customer_id=customer_id,
                window_start=_EPOCH + number * WINDOW,
                dimensions=(text := canonical_dimensions(zip(self._dimensions[meter_id], group, strict=True))),
                dimensions_key=dimensions_key(text),
                value=value,
                event_count=self._counts[meter_id, customer_id, number, group],
            )
            for (meter_id, customer_id, number, group), value in self._sums.items()
        ]
        return sorted(changes, key=lambda at: (at.customer_id, at.window_start, at.meter_id, at.dimensions_key))


def canonical_dimensions(values: Iterable[tuple[str, str | None]]) -> str:
    """The dimensions that the events have as JSON: keys sorted, no blanks; equal groups give equal text."""
    present = {name: value for name, value in values if value is not None}
    return orjson.dumps(present, option=orjson.OPT_SORT_KEYS).decode() if present else "{}"


def dimensions_key(canonical: str) -> bytes:
    """16 bytes that stand for the dimensions in keys: eight long values would not fit into an index row."""
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()
