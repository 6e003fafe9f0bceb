"""Ingest's usage windows and watermarks on the wire."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

from services.rating.domain.usage import NO_DIMENSIONS, Watermark, WindowRow
from services.rating.wire.times import instant_from_pb, instant_to_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import usage_window_pb2


def window_from_pb(tenant_id: str, window: usage_window_pb2.UsageWindow) -> WindowRow:
    """Return a usage window as a row of a batch.

    :raises ValueError: if it has no key, no version, or its value is not a finite decimal
    """
    if not window.meter_id or not window.customer_id or window.version <= 0:
        raise ValueError(f"a usage window lacks meter, customer or version: {window}")
    return WindowRow(
        tenant_id,
        window.customer_id,
        window.start_time.seconds,
        window.meter_id,
        _canonical(window) if window.dimensions else NO_DIMENSIONS,
        _finite(window.value),
        window.event_count,
        window.version,
        window.trace_parent,
    )


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


def _finite(text: str) -> str:
    try:
        finite = Decimal(text).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        raise ValueError(f"not a quantity: {text[:40]!r}")
    return text
