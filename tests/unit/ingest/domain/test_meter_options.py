"""Which options of a meter go together."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from libs.money import MAX_ROUNDING_DIGITS, MIN_ROUNDING_DIGITS, RoundingFunction
from services.ingest.domain.filters import FilterOperator, PropertyFilter
from services.ingest.domain.meter import Aggregation, Meter, meter_violations
from services.ingest.domain.meter_options import (
    WINDOWED,
    BucketLength,
    Buckets,
    EmptyBuckets,
    EmptyResult,
    LevelUnit,
    Rounding,
)

SUM = Meter("m", "", "t", Aggregation.SUM, "value")
COUNT = Meter("m", "", "t", Aggregation.COUNT)
LATEST = replace(SUM, aggregation=Aggregation.LATEST)
UNIQUE = replace(SUM, aggregation=Aggregation.UNIQUE_COUNT, expression="user")
WEIGHTED = replace(SUM, aggregation=Aggregation.WEIGHTED_SUM)
PERCENTILE = replace(SUM, aggregation=Aggregation.PERCENTILE, percentile=Decimal(95))
HOURLY_MAX = replace(SUM, buckets=Buckets(BucketLength.HOUR, Aggregation.MAX))
ROUNDING = Rounding(RoundingFunction.CEIL, 2)


class TestGoodMeters:
    @pytest.mark.parametrize(
        "meter",
        [
            *(replace(SUM, aggregation=aggregation) for aggregation in sorted(WINDOWED - {Aggregation.COUNT})),
            replace(UNIQUE, expression="concat(user, device)", operation_property="op", carry_over=True, prorated=True),
            replace(WEIGHTED, level_unit=LevelUnit.HOUR, carry_over=True, unit="GB", unit_property="unit"),
            PERCENTILE,
            replace(PERCENTILE, buckets=Buckets(BucketLength.FIVE_MINUTES, Aggregation.MAX), percentile=Decimal("0.1")),
            replace(HOURLY_MAX, rounding=ROUNDING, multiplier=Decimal("0.001")),
            replace(SUM, buckets=Buckets(BucketLength.DAY, Aggregation.COUNT, "Asia/Tokyo"), expression=""),
            replace(
                SUM,
                aggregation=Aggregation.AVG,
                buckets=Buckets(BucketLength.DAY, Aggregation.UNIQUE_COUNT, empty=EmptyBuckets.SKIP),
            ),
            replace(LATEST, negative_as_zero=True, carry_over=True, empty=EmptyResult.NULL),
            replace(SUM, prorated=True, rounding=Rounding(RoundingFunction.ROUND, MIN_ROUNDING_DIGITS)),
            replace(SUM, unit="any words of theirs"),
            replace(COUNT, exclude=((PropertyFilter("env", "test"),),)),
        ],
    )
    def test_have_no_violations(self, meter: Meter) -> None:
        assert meter_violations(meter) == []


class TestViolations:
    @pytest.mark.parametrize(
        ("meter", "field", "reason"),
        [
            (replace(UNIQUE, expression=""), "meter.expression", "REQUIRED"),
            (replace(UNIQUE, expression="a + b"), "meter.expression", "TYPE_MISMATCH"),
            (replace(SUM, expression="concat(a, b)"), "meter.expression", "TYPE_MISMATCH"),
            (replace(SUM, unit_property="unit"), "meter.unit", "REQUIRED"),
            (replace(SUM, unit="apples", unit_property="unit"), "meter.unit", "UNKNOWN_UNIT"),
            (replace(SUM, unit="GB", unit_property="u" * 65), "meter.unit_property", "TOO_LONG"),
            (replace(COUNT, unit="GB", unit_property="unit"), "meter.unit_property", "NOT_ALLOWED"),
            (replace(UNIQUE, unit="GB", unit_property="unit"), "meter.unit_property", "NOT_ALLOWED"),
            (replace(SUM, operation_property="op"), "meter.operation_property", "NOT_ALLOWED"),
            (replace(UNIQUE, operation_property=" op"), "meter.operation_property", "SURROUNDING_BLANK"),
            (replace(HOURLY_MAX, aggregation=Aggregation.LATEST), "meter.aggregation", "NOT_ALLOWED"),
            (replace(HOURLY_MAX, aggregation=Aggregation.WEIGHTED_SUM), "meter.aggregation", "NOT_ALLOWED"),
            (
                replace(SUM, buckets=Buckets(BucketLength.DAY, Aggregation.WEIGHTED_SUM)),
                "meter.buckets.aggregation",
                "NOT_ALLOWED",
            ),
            (
                replace(SUM, buckets=Buckets(BucketLength.DAY, Aggregation.MAX, empty=EmptyBuckets.SKIP)),
                "meter.buckets.empty",
                "NOT_ALLOWED",
            ),
            (
                replace(SUM, buckets=Buckets(BucketLength.DAY, Aggregation.MAX, "Berlin")),
                "meter.buckets.time_zone",
                "UNKNOWN_TIME_ZONE",
            ),
            (replace(PERCENTILE, percentile=None), "meter.percentile", "REQUIRED"),
            (replace(PERCENTILE, percentile=Decimal(0)), "meter.percentile", "OUT_OF_RANGE"),
            (replace(PERCENTILE, percentile=Decimal("100.1")), "meter.percentile", "OUT_OF_RANGE"),
            (replace(PERCENTILE, percentile=Decimal("NaN")), "meter.percentile", "OUT_OF_RANGE"),
            (replace(SUM, percentile=Decimal(95)), "meter.percentile", "NOT_ALLOWED"),
            (replace(SUM, level_unit=LevelUnit.HOUR), "meter.level_unit", "NOT_ALLOWED"),
            (replace(HOURLY_MAX, carry_over=True), "meter.carry_over", "NOT_ALLOWED"),
            (replace(PERCENTILE, carry_over=True), "meter.carry_over", "NOT_ALLOWED"),
            (replace(HOURLY_MAX, prorated=True), "meter.prorated", "NOT_ALLOWED"),
            (replace(LATEST, prorated=True), "meter.prorated", "NOT_ALLOWED"),
            (replace(SUM, negative_as_zero=True), "meter.negative_as_zero", "NOT_ALLOWED"),
            (replace(COUNT, empty=EmptyResult.NULL), "meter.empty", "NOT_ALLOWED"),
            (replace(UNIQUE, empty=EmptyResult.NULL), "meter.empty", "NOT_ALLOWED"),
            (replace(WEIGHTED, empty=EmptyResult.NULL), "meter.empty", "NOT_ALLOWED"),
            (replace(SUM, prorated=True, empty=EmptyResult.NULL), "meter.empty", "NOT_ALLOWED"),
            (
                replace(SUM, rounding=Rounding(RoundingFunction.ROUND, MAX_ROUNDING_DIGITS + 1)),
                "meter.rounding.digits",
                "OUT_OF_RANGE",
            ),
            (
                replace(SUM, rounding=Rounding(RoundingFunction.ROUND, MIN_ROUNDING_DIGITS - 1)),
                "meter.rounding.digits",
                "OUT_OF_RANGE",
            ),
            (replace(SUM, multiplier=Decimal(0)), "meter.multiplier", "OUT_OF_RANGE"),
            (replace(SUM, multiplier=Decimal(-1)), "meter.multiplier", "OUT_OF_RANGE"),
            (replace(SUM, multiplier=Decimal("1e-13")), "meter.multiplier", "OUT_OF_RANGE"),
            (replace(SUM, exclude=((),)), "meter.exclude[0]", "REQUIRED"),
            (
                replace(SUM, filters=(PropertyFilter("a", operator=FilterOperator.IN),)),
                "meter.filters[0].values",
                "REQUIRED",
            ),
        ],
    )
    def test_name_field_and_reason(self, meter: Meter, field: str, reason: str) -> None:
        assert [(found.field, found.reason) for found in meter_violations(meter)] == [(field, reason)]


class TestMergeable:
    @pytest.mark.parametrize("aggregation", sorted(WINDOWED))
    def test_what_has_states(self, aggregation: Aggregation) -> None:
        meter = replace(SUM, aggregation=aggregation)

        assert meter.mergeable
        assert meter.window_aggregation is aggregation
        assert not replace(meter, carry_over=True).mergeable
        assert not replace(meter, prorated=True).mergeable

    @pytest.mark.parametrize(
        ("meter", "window_aggregation"),
        [
            (UNIQUE, Aggregation.COUNT),
            (PERCENTILE, Aggregation.COUNT),
            (WEIGHTED, Aggregation.SUM),
            (HOURLY_MAX, Aggregation.MAX),
            (replace(PERCENTILE, buckets=Buckets(BucketLength.MINUTE, Aggregation.UNIQUE_COUNT)), Aggregation.COUNT),
            (replace(SUM, buckets=Buckets(BucketLength.DAY, Aggregation.COUNT)), Aggregation.COUNT),
        ],
    )
    def test_what_only_the_log_knows_has_windows_all_the_same(
        self, meter: Meter, window_aggregation: Aggregation
    ) -> None:
        assert not meter.mergeable
        assert meter.window_aggregation is window_aggregation
