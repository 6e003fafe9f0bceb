from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidInput
from libs.money import RoundingFunction
from services.ingest.domain.filters import FilterOperator
from services.ingest.domain.meter import Meter, PropertyFilter
from services.ingest.domain.meter_options import (
    Aggregation,
    BucketLength,
    Buckets,
    EmptyBuckets,
    EmptyResult,
    LevelUnit,
    Rounding,
)
from services.ingest.store.meter_options import filters_from_json, filters_to_json, options_from_json, options_to_json
from services.ingest.wire.meters import meter_from_pb, meter_to_pb
from steelyard.ingest.v1 import meter_pb2 as pb

texts = st.text(max_size=5)
numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-100, max_value=100, places=3)
equalities = st.builds(PropertyFilter, texts, texts)
filters = equalities | st.builds(
    PropertyFilter,
    texts,
    texts,
    st.sampled_from([operator for operator in FilterOperator if operator is not FilterOperator.EQUALS]),
    st.lists(texts, max_size=2).map(tuple),
)
meters = st.builds(
    Meter,
    meter_id=texts,
    display_name=texts,
    event_type=texts,
    aggregation=st.sampled_from(Aggregation),
    expression=texts,
    filters=st.lists(filters, max_size=3).map(tuple),
    group_by=st.lists(texts, max_size=2).map(tuple),
    unit=texts,
    created_at=st.none() | st.just(datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC)),
    exclude=st.lists(st.lists(filters, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple),
    unit_property=texts,
    operation_property=texts,
    buckets=st.none()
    | st.builds(
        Buckets,
        st.sampled_from(BucketLength),
        st.sampled_from(Aggregation),
        st.sampled_from(["UTC", "Europe/Berlin"]),
        st.sampled_from(EmptyBuckets),
    ),
    percentile=st.none() | numbers,
    level_unit=st.sampled_from(LevelUnit),
    carry_over=st.booleans(),
    prorated=st.booleans(),
    negative_as_zero=st.booleans(),
    rounding=st.none() | st.builds(Rounding, st.sampled_from(RoundingFunction), st.integers(-20, 12)),
    multiplier=numbers,
    empty=st.sampled_from(EmptyResult),
)
PLAIN = Meter("m", "", "t", Aggregation.COUNT)


class TestWire:
    @given(meters)
    def test_a_meter_is_read_as_it_was_written(self, meter: Meter) -> None:
        assert meter_from_pb(pb.Meter.FromString(meter_to_pb(meter).SerializeToString())) == meter

    def test_what_is_so_by_default_is_left_out(self) -> None:
        message = meter_to_pb(PLAIN)
        assert {field.name for field, _ in message.ListFields()} == {
            "meter_id",
            "event_type",
            "aggregation",
            "additive",
            "version",
        }

    @pytest.mark.parametrize(
        ("changes", "field", "reason"),
        [
            ({"aggregation": 0}, "meter.aggregation", "REQUIRED"),
            ({"aggregation": 77}, "meter.aggregation", "UNKNOWN"),
            ({"filters": [{"property": "a"}, {"operator": 99}]}, "meter.filters[1].operator", "UNKNOWN"),
            ({"exclude": [{"filters": [{"operator": 99}]}]}, "meter.exclude[0].filters[0].operator", "UNKNOWN"),
            ({"buckets": {"aggregation": 1}}, "meter.buckets.length", "REQUIRED"),
            ({"buckets": {"length": 1}}, "meter.buckets.aggregation", "REQUIRED"),
            ({"level_unit": 99}, "meter.level_unit", "UNKNOWN"),
            ({"rounding": {"digits": 2}}, "meter.rounding.function", "REQUIRED"),
            ({"empty": 99}, "meter.empty", "UNKNOWN"),
            ({"percentile": "95%"}, "meter.percentile", "NOT_A_NUMBER"),
            ({"multiplier": "1e999"}, "meter.multiplier", "TOO_MANY_DIGITS"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, changes: dict[str, object], field: str, reason: str) -> None:
        given = {"meter_id": "m", "aggregation": 1} | changes
        with pytest.raises(InvalidInput) as caught:
            meter_from_pb(pb.Meter(**given))  # type: ignore[arg-type]
        (violation,) = caught.value.violations
        assert (violation.field, violation.reason) == (field, reason)


class TestStored:
    @given(meters)
    def test_options_are_read_as_they_were_written(self, meter: Meter) -> None:
        stored = orjson.loads(orjson.dumps(options_to_json(meter)))
        bare = replace(PLAIN, aggregation=meter.aggregation, created_at=meter.created_at)
        columns = {name: getattr(meter, name) for name in ("meter_id", "display_name", "event_type", "expression")}
        columns |= {"filters": meter.filters, "group_by": meter.group_by, "unit": meter.unit}
        assert replace(bare, **columns, **options_from_json(stored)) == meter

    @given(st.lists(filters))
    def test_filters_are_read_as_they_were_written(self, given: list[PropertyFilter]) -> None:
        assert filters_from_json(orjson.loads(orjson.dumps(filters_to_json(given)))) == tuple(given)

    def test_filters_from_before_operators_are_equalities(self) -> None:
        assert filters_from_json([["model", "a"]]) == (PropertyFilter("model", "a"),)

    def test_a_meter_without_options_stores_none(self) -> None:
        assert options_to_json(PLAIN) == {}


class TestAdditive:
    @pytest.mark.parametrize(
        ("changes", "additive"),
        [
            ({}, True),
            ({"aggregation": Aggregation.SUM}, True),
            ({"aggregation": Aggregation.MAX}, False),
            ({"aggregation": Aggregation.AVG}, False),
            ({"aggregation": Aggregation.UNIQUE_COUNT}, False),
            ({"rounding": Rounding(RoundingFunction.CEIL)}, False),
            ({"multiplier": Decimal("0.001")}, False),
            ({"carry_over": True}, False),
            ({"prorated": True}, False),
            ({"buckets": Buckets(BucketLength.HOUR, Aggregation.SUM)}, False),
        ],
    )
    def test_only_plain_counts_and_sums_add_up(self, changes: dict[str, object], additive: bool) -> None:
        assert meter_to_pb(replace(PLAIN, **changes)).additive is additive  # type: ignore[arg-type]
