from __future__ import annotations

from pathlib import Path

import pytest

from libs.cli.meter_files import MeterFileError, parse_meters, read_meters
from steelyard.ingest.v1 import meter_pb2 as pb

EVERYTHING = """
meter_id: peaks
display_name: Peaks
description: Busiest times.
event_type: sample
filters:
  - {property: region, operator: in, values: [eu-1, eu-2]}
  - {property: size, operator: greater_or_equal, value: 0100}
  - {property: env, value: yes}
exclude:
  - [{property: env, value: test}, {property: team, value: qa}]
aggregation: percentile
expression: bytes * 8
group_by: [region]
unit: Mbit/s
unit_property: unit
buckets: {length: 5_minutes, aggregation: max, time_zone: Europe/Berlin, empty: skip}
percentile: 99.90
level_unit: hour
carry_over: true
prorated: false
negative_as_zero: true
rounding: {function: ceil, digits: -2}
multiplier: 0.10000000000000000001
empty: null
---
meter_id: seats
event_type: seat
aggregation: unique_count
expression: user
operation_property: change
"""


class TestMeters:
    def test_have_every_field_of_the_file_as_it_stands_there(self) -> None:
        peaks, seats = parse_meters(EVERYTHING)
        equals, contains, least = pb.FILTER_OPERATOR_UNSPECIFIED, pb.FILTER_OPERATOR_IN, 10
        assert peaks == pb.Meter(
            meter_id="peaks",
            display_name="Peaks",
            description="Busiest times.",
            event_type="sample",
            filters=[
                pb.PropertyFilter(property="region", operator=contains, values=["eu-1", "eu-2"]),
                pb.PropertyFilter(property="size", operator=least, value="0100"),  # type: ignore[arg-type]
                pb.PropertyFilter(property="env", operator=equals, value="yes"),
            ],
            exclude=[
                pb.Exclusion(
                    filters=[
                        pb.PropertyFilter(property="env", value="test"),
                        pb.PropertyFilter(property="team", value="qa"),
                    ]
                )
            ],
            aggregation=pb.AGGREGATION_PERCENTILE,
            expression="bytes * 8",
            group_by=["region"],
            unit="Mbit/s",
            unit_property="unit",
            buckets=pb.Buckets(
                length=pb.BUCKET_LENGTH_FIVE_MINUTES,
                aggregation=pb.AGGREGATION_MAX,
                time_zone="Europe/Berlin",
                skip_empty=True,
            ),
            percentile="99.90",
            level_unit=pb.LEVEL_UNIT_HOUR,
            carry_over=True,
            negative_as_zero=True,
            rounding=pb.QuantityRounding(function=pb.ROUNDING_FUNCTION_CEIL, digits=-2),
            multiplier="0.10000000000000000001",
            empty=pb.EMPTY_QUANTITY_NULL,
        )
        assert seats.operation_property == "change"

    def test_of_a_file_may_begin_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        path = tmp_path / "meters.yaml"
        path.write_bytes(b"\xef\xbb\xbf" + EVERYTHING.encode())
        assert [meter.meter_id for meter in read_meters(path)] == ["peaks", "seats"]


class TestProblems:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "there is no meter in it"),
            ("- a", "document 1: must be a mapping of fields"),
            ("a: [", "no YAML: "),
            ("meter_id: a\nagregation: sum", "document 1: agregation: is no field; known are meter_id, "),
            ("meter_id: a\naggregation: total", "document 1: aggregation: must be one of count, sum, min, max, "),
            ("meter_id: [a]", "document 1: meter_id: must be one value"),
            ("meter_id: a\n---\nmeter_id: a", "meter a stands there twice"),
            ("filters: {property: a}", "document 1: filters: must be a list"),
            ("filters: [{property: a, operator: like}]", "document 1: filters[0]: operator: must be one of equals, "),
            ("exclude: [[{x: y}]]", "document 1: exclude[0][0]: x: is no field"),
            ("buckets: {length: week}", "document 1: buckets: length: must be one of minute, 5_minutes, "),
            ("rounding: {digits: two}", "document 1: rounding: digits: must be a whole number"),
            ("rounding: {digits: 99999999999}", "document 1: rounding: digits: is too large"),
            ("carry_over: yes", "document 1: carry_over: must be one of true, false"),
        ],
    )
    def test_are_named_with_their_place(self, text: str, problem: str) -> None:
        with pytest.raises(MeterFileError) as caught:
            parse_meters(text)
        assert caught.value.problems[0].startswith(problem)

    def test_are_all_named_at_once(self) -> None:
        with pytest.raises(MeterFileError) as caught:
            parse_meters("a: 1\nb: 2\n---\nlevel_unit: year\n")
        assert [problem.partition(": is no")[0].partition(": must")[0] for problem in caught.value.problems] == [
            "document 1: a",
            "document 1: b",
            "document 2: level_unit",
        ]

    def test_a_file_that_is_no_text_is_one(self, tmp_path: Path) -> None:
        path = tmp_path / "meters.yaml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(MeterFileError, match="no UTF-8"):
            read_meters(path)
