"""Ingest's usage windows and watermarks on the wire."""

from __future__ import annotations

import json
import re
from decimal import Decimal

from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.usage import NO_DIMENSIONS, Watermark, WindowRow
from services.rating.wire.times import instant_from_pb, instant_to_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import usage_window_pb2, usage_window_service_pb2

# What PostgreSQL takes as a number, without what it would take for one (NaN, infinities, 1_000), and not so large
# that adding up would fail.
_QUANTITY = re.compile(r"-?[0-9]{1,1000}(?:\.[0-9]{1,1000})?(?:[eE][+-]?[0-9]{1,3})?")
_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800
"""The years 1 to 9999, in seconds since 1970."""


def window_from_pb(tenant_id: str, window: usage_window_pb2.UsageWindow) -> WindowRow:
    """Return a usage window as a row of a batch.

    :raises ValueError: if it has no key, no version, or its value is not a finite decimal
    """
    meter_id, customer_id, version, value = window.meter_id, window.customer_id, window.version, window.value
    if not meter_id or not customer_id or version <= 0:
        raise ValueError(f"a usage window lacks meter, customer or version: {window}")
    if _QUANTITY.fullmatch(value) is None:
        raise ValueError(f"not a quantity: {value[:40]!r}")
    start_s = window.start_time.seconds
    if not _FIRST_S <= start_s < _END_S:
        raise ValueError(f"not the start of a usage window: second {start_s}")
    return WindowRow(
        tenant_id,
        customer_id,
        start_s,
        meter_id,
        _canonical(window) if window.dimensions else NO_DIMENSIONS,
        value,
        window.event_count,
        version,
        window.trace_parent,
    )


def quantity_from_pb(quantity: usage_window_service_pb2.UsageQuantity) -> ExactUsage:
    """Return an exact quantity; that of nothing is zero.

    :raises ValueError: if its value is not a finite decimal
    """
    value = quantity.value if quantity.HasField("value") else "0"
    if _QUANTITY.fullmatch(value) is None:
        raise ValueError(f"not a quantity: {value[:40]!r}")
    return ExactUsage(Decimal(value), quantity.event_count, quantity.highest_version)


def watermark_from_pb(watermark: watermark_pb2.WatermarkAdvanced) -> Watermark:
    """Return a watermark.

    :raises ValueError: if it has no time
    """
    if not watermark.HasField("watermark_time"):
        raise ValueError("a watermark lacks its time")
    holds = tuple((hold.tenant_id, hold.reason) for hold in watermark.holds)
    return Watermark(instant_from_pb(watermark.watermark_time), holds)


def watermark_to_bytes(watermark: Watermark) -> bytes:
    """Return a watermark as the payload of a message."""
    holds = [watermark_pb2.TenantHold(tenant_id=tenant_id, reason=reason) for tenant_id, reason in watermark.holds]
    message = watermark_pb2.WatermarkAdvanced(watermark_time=instant_to_pb(watermark.at), holds=holds)
    return message.SerializeToString()


def _canonical(window: usage_window_pb2.UsageWindow) -> str:
    return json.dumps(dict(window.dimensions), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
