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
DISPUTED = _METER.counter(
    "steelyard.payments.disputed",
    unit="{answer}",
    description="Answers of the gateway that contradict the stored outcome of their attempt: somebody has to look.",
)
WITHHELD = _METER.counter(
    "steelyard.payments.withheld",
    unit="{payment}",
    description="Payments that were not tried because their card was declined hard, or too often, before.",
)
