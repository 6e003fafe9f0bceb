"""Usage windows on the wire."""

from __future__ import annotations

from libs.money import plain
from services.ingest.domain.usage_windows import UsageWindow
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import usage_window_pb2


def window_to_pb(window: UsageWindow) -> usage_window_pb2.UsageWindow:
    return usage_window_pb2.UsageWindow(
        meter_id=window.meter_id,
        customer_id=window.customer_id,
        dimensions=window.dimensions,
        start_time=time_to_pb(window.start),
        value=plain(window.value),
        event_count=window.event_count,
        version=window.version,
        trace_parent=window.trace_parent,
    )
