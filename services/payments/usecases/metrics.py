"""What payments tells its operators in numbers."""

from __future__ import annotations

from libs.telemetry import meter

_METER = meter("steelyard.payments")

CAPTURED = _METER.counter(
    "steelyard.payments.captured", unit="{payment}", description="Payments whose money was captured."
)
DECLINED = _METER.counter(
    "steelyard.payments.declined",
    unit="{attempt}",
    description="Attempts that the gateway declined, softly (worth another try) or hard.",
    labels=("decline",),
)
UNKNOWN = _METER.counter(
    "steelyard.payments.unknown",
    unit="{call}",
    description="Calls of the gateway that ended without an answer; each is followed by a question.",
)
