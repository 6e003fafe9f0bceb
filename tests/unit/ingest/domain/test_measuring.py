"""What meters measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

import pytest

from services.ingest.domain.aggregations import Operation
from services.ingest.domain.filters import FilterOperator
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter
from services.ingest.domain.usage_batch import UsageColumns


def events(*properties: Mapping[str, str], event_type: str = "llm") -> UsageColumns:
    count = len(properties)
    ids = [str(number) for number in range(count)]
    return UsageColumns(ids, ["s"] * count, [event_type] * count, ["c"] * count, [1] * count, [*map(dict, properties)])


def a_sum(
    expression: str = "tokens", *filters: tuple[str, str], meter_id: str = "sum", event_type: str = "llm"
) -> Meter:
    kept = tuple(PropertyFilter(*item) for item in filters)
    return Meter(meter_id, "", event_type, Aggregation.SUM, expression, kept)


A_COUNT = Meter("count", "", "llm", Aggregation.COUNT)


class TestMeasure:
    def test_a_count_counts_and_a_sum_evaluates(self) -> None:
        measurement = measure(events({"tokens": "1.50"}, {"tokens": "2"}), [A_COUNT, a_sum("tokens * 2")])

        readings = [(reading.meter.meter_id, reading.rows, reading.values) for reading in measurement.readings]
        assert readings == [("count", [0, 1], [Decimal(1)] * 2), ("sum", [0, 1], [Decimal("3.00"), Decimal(4)])]
        assert measurement.problems == {}

    def test_other_types_and_filtered_events_are_passed_over_whatever_they_hold(self) -> None:
        usage = events({"tokens": "1", "model": "a"}, {"tokens": "x", "model": "b"}, {"tokens": "x"})

        measurement = measure(usage, [a_sum("tokens", ("model", "a")), a_sum("nothing", event_type="other")])

        assert [(reading.rows, reading.values) for reading in measurement.readings] == [([0], [Decimal(1)])]
        assert measurement.problems == {}

    def test_skipped_events_are_not_looked_at(self) -> None:
        assert measure(events({"tokens": "x"}, {"tokens": "1"}), [a_sum()], skip={0}).readings[0].rows == [1]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "EMPTY"),
            ("NaN", "NOT_A_NUMBER"),
            ("Infinity", "NOT_A_NUMBER"),
            ("0x1F", "NOT_A_NUMBER"),
            ("1_000", "NOT_A_NUMBER"),
            ("1,5", "NOT_A_NUMBER"),
            (" 1", "NOT_A_NUMBER"),
            ("\u0661", "NOT_A_NUMBER"),
            ("1e400", "TOO_MANY_DIGITS"),
            ("1e20", "TOO_MANY_DIGITS"),
            ("1" * 40, "TOO_MANY_DIGITS"),
            ("0." + "1" * 40, "TOO_PRECISE"),
            ("1e-13", "TOO_PRECISE"),
        ],
    )
    def test_what_is_no_acceptable_number_is_a_problem_of_its_property(self, text: str, reason: str) -> None:
        problem = measure(events({"tokens": text}), [a_sum()]).problems[0]

        assert (problem.field, problem.reason) == ("properties.tokens", reason)

    @pytest.mark.parametrize("text", ["0", "-1", "1e3", "9" * 20 + "." + "9" * 12, "000001.500000000000000"])
    def test_acceptable_numbers(self, text: str) -> None:
        assert measure(events({"tokens": text}), [a_sum()]).readings[0].values == [Decimal(text)]

    def test_a_missing_property_is_a_problem(self) -> None:
        problem = measure(events({}), [a_sum("input + output")]).problems[0]

        assert (problem.field, problem.reason) == ("properties.input", "MISSING_PROPERTY")
        assert problem.description == "meter sum needs it"

    def test_a_value_that_cannot_be_computed_is_a_problem(self) -> None:
        problem = measure(events({"a": "1", "b": "0"}), [a_sum("a / b")]).problems[0]

        assert (problem.field, problem.reason) == ("properties", "DIVISION_BY_ZERO")

    def test_an_event_with_a_problem_counts_for_no_meter_and_the_others_do(self) -> None:
        usage = events({"tokens": "1"}, {"tokens": "x"}, {"tokens": "3"})

        measurement = measure(usage, [A_COUNT, a_sum(), a_sum("tokens", meter_id="again")])

        assert [reading.rows for reading in measurement.readings] == [[0, 2]] * 3
        assert [reading.values for reading in measurement.readings[1:]] == [[Decimal(1), Decimal(3)]] * 2
        assert set(measurement.problems) == {1}


def reasons(usage: UsageColumns, *meters: Meter) -> dict[int, tuple[str, str]]:
    return {row: (item.field, item.reason) for row, item in measure(usage, meters).problems.items()}


UNIQUE = Meter("users", "", "llm", Aggregation.UNIQUE_COUNT, "user", operation_property="op")


class TestMeasureTexts:
    def test_a_unique_count_measures_texts_and_operations(self) -> None:
        usage = events({"user": "u1"}, {"user": "u2", "op": "add"}, {"user": "u1", "op": "remove"})

        (reading,) = measure(usage, [UNIQUE]).readings

        assert reading.texts == ["u1", "u2", "u1"]
        assert reading.operations == [Operation.ADD, Operation.ADD, Operation.REMOVE]
        assert reading.values == [Decimal(1)] * 3

    def test_numbers_have_neither(self) -> None:
        (reading,) = measure(events({"tokens": "1"}), [a_sum()]).readings

        assert (reading.texts, reading.operations) == ((), ())

    def test_an_unknown_operation_is_a_problem_of_its_event(self) -> None:
        usage = events({"user": "u1", "op": "Add"}, {"user": "u2"}, {})

        measurement = measure(usage, [UNIQUE])

        assert (measurement.readings[0].rows, measurement.readings[0].texts) == ([1], ["u2"])
        assert reasons(usage, UNIQUE) == {
            0: ("properties.op", "UNKNOWN_OPERATION"),
            2: ("properties.user", "MISSING_PROPERTY"),
        }

    def test_without_a_property_for_operations_all_add(self) -> None:
        (reading,) = measure(events({"user": "u1", "op": "remove"}), [replace(UNIQUE, operation_property="")]).readings

        assert reading.operations == [Operation.ADD]


class TestMeasureUnits:
    METER = replace(a_sum("duration"), unit="minutes", unit_property="unit")

    def test_values_are_converted_to_the_unit_of_the_meter(self) -> None:
        usage = events(
            {"duration": "2", "unit": "hours"}, {"duration": "3"}, {"duration": "90", "unit": "s"}, {"duration": "0"}
        )

        (reading,) = measure(usage, [self.METER]).readings

        assert reading.values == [Decimal(120), Decimal(3), Decimal("1.5"), Decimal(0)]

    def test_what_cannot_be_converted_is_a_problem(self) -> None:
        units = ("GB", "eons", "s", "minutes")
        usage = events(*({"duration": "1", "unit": unit} for unit in units))

        assert reasons(usage, self.METER) == {
            0: ("properties.unit", "INCOMPATIBLE_UNIT"),
            1: ("properties.unit", "UNKNOWN_UNIT"),
            2: ("properties.unit", "INEXACT_CONVERSION"),
        }
        assert measure(usage, [self.METER]).readings[0].rows == [3]

    def test_without_a_property_for_units_nothing_is_converted(self) -> None:
        meter = replace(self.METER, unit_property="")

        assert measure(events({"duration": "2", "unit": "eons"}), [meter]).readings[0].values == [Decimal(2)]


class TestMeasureFilters:
    def test_an_event_that_a_filter_cannot_compare_counts_for_no_meter(self) -> None:
        large = replace(A_COUNT, filters=(PropertyFilter("size", "10", FilterOperator.GREATER_THAN),))
        usage = events({"size": "11"}, {"size": "much"}, {"size": "9"}, {})

        measurement = measure(usage, [A_COUNT, large])

        assert [reading.rows for reading in measurement.readings] == [[0, 2, 3], [0]]
        assert reasons(usage, large) == {1: ("properties.size", "NOT_A_NUMBER")}

    def test_exclusions(self) -> None:
        tests = ((PropertyFilter("env", "test"), PropertyFilter("model", "a")),)
        usage = events({"env": "test", "model": "a"}, {"env": "test", "model": "b"}, {"model": "a"})

        assert measure(usage, [replace(A_COUNT, exclude=tests)]).readings[0].rows == [1, 2]

    def test_conditions_see_the_event(self) -> None:
        meter = a_sum("if(event.type == 'llm' and event.timestamp < 1, tokens, 0)")

        assert measure(events({"tokens": "3"}), [meter]).readings[0].values == [Decimal(3)]
