"""What ingest sends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.rating.domain.usage import Watermark, WindowRow
from services.rating.wire.usage import watermark_from_pb, watermark_to_bytes, window_from_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import usage_window_pb2

AT = datetime(2026, 3, 1, 10, 15, tzinfo=UTC)


def _window(**changes: object) -> usage_window_pb2.UsageWindow:
    fields: dict[str, object] = {
        "meter_id": "m",
        "customer_id": "c",
        "dimensions": {"b": "ü", "a": "1"},
        "value": "1.50",
        "event_count": 3,
        "version": 7,
        "trace_parent": "t",
    }
    message = usage_window_pb2.UsageWindow(**fields | changes)  # type: ignore[arg-type]
    message.start_time.FromDatetime(AT)
    return message


def test_a_window_becomes_a_row_with_canonical_dimensions() -> None:
    row = window_from_pb("acme", _window())

    assert row == WindowRow("acme", "c", int(AT.timestamp()), "m", '{"a":"1","b":"ü"}', "1.50", 3, 7, "t")
    assert window_from_pb("acme", _window(dimensions={})).dimensions == "{}"


@pytest.mark.parametrize(
    "changes",
    [{"value": text} for text in ("", "NaN", "sNaN", "Infinity", "-inf", "1,5", "0x10", "1_000", "1e9999", "\u0661")]
    + [{"meter_id": ""}, {"customer_id": ""}, {"version": 0}, {"version": -1}],
)
def test_an_impossible_window_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"quantity|lacks"):
        window_from_pb("acme", _window(**changes))


def test_a_watermark_keeps_its_holds() -> None:
    watermark = Watermark(AT, (("acme", "batch 7 is missing"), ("initech", "parked")))

    assert watermark_from_pb(watermark_pb2.WatermarkAdvanced.FromString(watermark_to_bytes(watermark))) == watermark
    with pytest.raises(ValueError, match="lacks its time"):
        watermark_from_pb(watermark_pb2.WatermarkAdvanced())
