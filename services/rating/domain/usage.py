"""Usage windows as columns, and what they add up to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from libs.money import exact
from libs.periods import Period

NO_DIMENSIONS = "{}"
_ZERO = Decimal(0)


class WindowRow(NamedTuple):
    """One usage window: `start_s` is its first second since 1970, `dimensions` canonical JSON, `value` a decimal."""

    tenant_id: str
    customer_id: str
    start_s: int
    meter_id: str
    dimensions: str
    value: str
    event_count: int
    version: int
    trace_parent: str


class WindowBatch:
    """Many windows of several tenants, of each only the highest version."""

    def __init__(self, rows: Iterable[WindowRow] = ()) -> None:
        self._rows: dict[tuple[str, str, int, str, str], WindowRow] = {}
        for row in rows:
            self.keep(row)

    def keep(self, row: WindowRow) -> None:
        """Add a window unless an equal or higher version of it is there."""
        known = self._rows.get(row[:5])
        if known is None or known.version < row.version:
            self._rows[row[:5]] = row

    def __len__(self) -> int:
        return len(self._rows)

    def tenants(self) -> list[str]:
        return sorted({key[0] for key in self._rows})

    def rows(self) -> Collection[WindowRow]:
        return self._rows.values()


def dimensions_key(dimensions: str) -> bytes:
    """Digest of canonical dimensions, short enough for an index; empty for none."""
    if dimensions == NO_DIMENSIONS:
        return b""
    return hashlib.blake2b(dimensions.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class UsageScope:
    """The windows of one customer that start in a period."""

    customer_id: str
    period: Period


class MeterFacts(NamedTuple):
    """What prices have to know of a meter.

    `additive`: its windows add up to the quantity of a billing period. `dimensions`: what splits its quantity. Both
    never change. `archived`: it counts no more events.
    """

    additive: bool
    dimensions: frozenset[str] = frozenset()
    archived: bool = False


class DimensionedQuantity(NamedTuple):
    """The quantity of one combination of a meter's dimensions in a billing period."""

    dimensions: Mapping[str, str]
    quantity: Decimal


class UsageDigest(NamedTuple):
    """What the windows of one scope and meter add up to; equal on both sides when nothing is missing."""

    window_count: int
    value: Decimal
    event_count: int
    highest_version: int


class MeterUsage(NamedTuple):
    """The usage of one meter in a billing period; `trace_parent` of the newest sampled change, or empty."""

    digest: UsageDigest
    trace_parent: str


@dataclass(frozen=True, slots=True)
class ExplainedUsage:
    """The usage of one UTC day, cut to a billing period; no quantity if those of days do not add up."""

    period: Period
    quantity: Decimal | None
    event_count: int
    window_count: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """Everything acknowledged before `at` (real time) has passed; `holds` are (tenant, reason) for which it has not."""

    at: datetime
    holds: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReceivedWatermark:
    """A watermark and where it lay in ingest's stream: it counts when everything before it has been handled."""

    watermark: Watermark
    stream_epoch: datetime
    stream_sequence: int


def differing_dimensions(
    meters: Collection[str],
    usage: Mapping[str, MeterUsage],
    by_dimensions: Mapping[str, Collection[DimensionedQuantity]],
) -> list[str]:
    """Those of the meters whose quantities by dimensions do not add up to the quantity of the billing period."""
    with exact():
        return [
            meter_id
            for meter_id in sorted(meters)
            if sum((quantity for _, quantity in by_dimensions.get(meter_id, ())), _ZERO)
            != (usage[meter_id].digest.value if meter_id in usage else _ZERO)
        ]
