"""What is a meter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter, meter_violations

SUM = Meter("tokens", "Tokens", "llm.request", Aggregation.SUM, "input + output", unit="tokens")
FILTERS = tuple(PropertyFilter(f"key-{number}", "x") for number in range(17))


class TestMeterViolations:
    @pytest.mark.parametrize(
        "meter",
        [
            SUM,
            Meter("m", "", "t", Aggregation.COUNT),
            replace(SUM, filters=FILTERS[:16], group_by=tuple("abcdefgh")),
            replace(SUM, filters=(PropertyFilter("model", ""),)),
        ],
    )
    def test_good_meters(self, meter: Meter) -> None:
        assert meter_violations(meter) == []

    @pytest.mark.parametrize(
        ("meter", "field", "reason"),
        [
            (replace(SUM, meter_id=""), "meter.meter_id", "REQUIRED"),
            (replace(SUM, meter_id="a b"), "meter.meter_id", "INVALID_ID"),
            (replace(SUM, meter_id="a" * 65), "meter.meter_id", "INVALID_ID"),
            (replace(SUM, event_type=""), "meter.event_type", "REQUIRED"),
            (replace(SUM, expression=""), "meter.expression", "REQUIRED"),
            (replace(SUM, expression="a +"), "meter.expression", "UNEXPECTED_END"),
            (replace(SUM, expression="__import__('os')"), "meter.expression", "UNEXPECTED_TOKEN"),
            (replace(SUM, aggregation=Aggregation.COUNT), "meter.expression", "NOT_ALLOWED"),
            (replace(SUM, filters=FILTERS), "meter.filters", "TOO_MANY"),
            (replace(SUM, filters=(PropertyFilter("", "x"),)), "meter.filters[0].property", "REQUIRED"),
            (replace(SUM, filters=(PropertyFilter("a", "x" * 257),)), "meter.filters[0].value", "TOO_LONG"),
            (replace(SUM, filters=(PropertyFilter("a", "\x00"),)), "meter.filters[0].value", "CONTROL_CHARACTER"),
            (replace(SUM, filters=(PropertyFilter("a", "x"), PropertyFilter("a", "y"))), "meter.filters", "DUPLICATE"),
            (replace(SUM, group_by=tuple("abcdefghi")), "meter.group_by", "TOO_MANY"),
            (replace(SUM, group_by=("a", "a")), "meter.group_by[1]", "DUPLICATE"),
            (replace(SUM, group_by=("k" * 65,)), "meter.group_by[0]", "TOO_LONG"),
        ],
    )
    def test_bad_meters(self, meter: Meter, field: str, reason: str) -> None:
        assert [(found.field, found.reason) for found in meter_violations(meter)] == [(field, reason)]

    def test_names_every_violation(self) -> None:
        meter = replace(SUM, meter_id="", event_type="", expression="")
        assert len(meter_violations(meter)) == 3
