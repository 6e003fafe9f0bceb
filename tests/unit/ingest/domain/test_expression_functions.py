"""Functions, conditions and texts in expressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from libs.money import MAX_ROUNDING_DIGITS, MIN_ROUNDING_DIGITS, plain
from services.ingest.domain.event_rows import PropertyRows, UnusableProperty
from services.ingest.domain.expression_parser import MAX_DEPTH, MAX_LENGTH, MAX_NODES
from services.ingest.domain.expressions import (
    EvaluationFailed,
    Expression,
    ExpressionRejected,
    ValueType,
    compile_expression,
)
from services.ingest.domain.usage_batch import UsageColumns

NUMBER, TEXT = ValueType.NUMBER, ValueType.TEXT
TIME_NS = 1_790_000_000_000_000_001


def rows_of(*properties: Mapping[str, str]) -> PropertyRows:
    count = len(properties)
    ids = [str(number) for number in range(count)]
    columns = UsageColumns(
        ids, ["s"] * count, ["llm"] * count, ["c"] * count, [TIME_NS] * count, [*map(dict, properties)]
    )
    return PropertyRows(list(range(count)), columns)


def values(expression: Expression, *properties: Mapping[str, str]) -> list[str]:
    rows = rows_of(*properties)
    return [found if isinstance(found, str) else plain(found) for found in expression.evaluate(rows, rows.rows)]


def value(text: str, wanted: ValueType = NUMBER, /, **properties: str) -> str:
    (found,) = values(compile_expression(text, wanted), properties)
    return found


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("min(3, 1, 2)", "1"),
            ("max(3, -1)", "3"),
            ("abs(-2.5)", "2.5"),
            ("ceil(1.2)", "2"),
            ("ceil(-1.2)", "-1"),
            ("floor(-1.2)", "-2"),
            ("round(2.5)", "3"),
            ("round(-2.5)", "-3"),
            ("round(2.345, 2)", "2.35"),
            ("ceil(123.456, -2)", "200"),
            ("floor(12.351, 1)", "12.3"),
            ("round (1.5) + 1", "3"),
            ("round(1 / 3, 4)", "0.3333"),
            ("if(1 < 2, 10, 20)", "10"),
            ("if(1 >= 2, 10, 20)", "20"),
            ("2 * if(not 1 == 2, 3, 4)", "6"),
            ("max(0, a - 100)", "0"),
        ],
    )
    def test_functions(self, text: str, result: str) -> None:
        assert value(text, a="7") == result

    @pytest.mark.parametrize(
        ("condition", "holds"),
        [
            ("a < b", True),
            ("a <= 2.0", True),
            ("a > b", False),
            ("a >= 2", True),
            ("a == 2.00", True),
            ("a != 2", False),
            ("a == b", False),
            ("model == 'large'", True),
            ('model != "large"', False),
            ("'it' == model", False),
            ("a < b and b < 4", True),
            ("a > b or b < 4", True),
            ("a > b or b < 4 and a == 1", False),
            ("(a > b or b < 4) and a == 2", True),
            ("not a > b", True),
            ("not (a > b or b < 4)", False),
            ("not not a == 2", True),
            ("(a < b) == (b > a)", True),
            ("event.type == 'llm'", True),
            ("event.timestamp > 1790000000", True),
        ],
    )
    def test_conditions(self, condition: str, holds: bool) -> None:
        assert value(f"if({condition}, 1, 0)", a="2", b="3", model="large") == str(int(holds))

    def test_what_the_event_itself_has(self) -> None:
        assert value("event.timestamp") == "1790000000.000000001"
        assert value("event.properties.a + a", a="2") == "4"
        assert value("event.code", TEXT) == value("event.type", TEXT) == "llm"
        assert value("event.other", **{"event.other": "5"}) == "5"

    def test_words_are_properties_where_they_can_be_nothing_else(self) -> None:
        names = ["if", "min", "round", "and", "or", "not", "concat"]
        properties = {name: str(number) for number, name in enumerate(names)}

        for name in names:
            assert value(f"{name} * 2", **properties) == str(2 * int(properties[name]))
        assert value("not - 1", **properties) == "4"
        assert value("if(and == 3 and or == 4, min, max(not, if))", **properties) == "1"


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("user", "u1"),
            ("'x'", "x"),
            ("concat(user, '-', event.type)", "u1-llm"),
            ("concat('n', 1 + 2)", "n3"),
            ("concat(a, 1.50)", "2.501.5"),
            ("if(a > 2, user, 'none')", "u1"),
            ("if(user == 'u1', concat(user, a), user)", "u12.50"),
        ],
    )
    def test_are_joined_and_chosen(self, text: str, result: str) -> None:
        assert value(text, TEXT, user="u1", a="2.50") == result

    def test_length_is_limited(self) -> None:
        expression = compile_expression("concat(a, a)", TEXT)
        rows = rows_of({"a": "x" * 128}, {"a": "x" * 129})

        assert expression.evaluate(rows, [0]) == ["x" * 256]
        with pytest.raises(EvaluationFailed) as raised:
            expression.evaluate(rows, [0, 1])
        assert raised.value.reasons == {1: "RESULT_TOO_LONG"}


class TestColumns:
    def test_a_branch_is_evaluated_only_for_the_rows_that_take_it(self) -> None:
        expression = compile_expression("if(b == 0, 0, a / b)")

        found = values(expression, {"a": "1", "b": "0"}, {"a": "6", "b": "3"}, {"b": "0"}, {"a": "1", "b": "4"})

        assert found == ["0", "2", "0", "0.25"]

    def test_a_property_is_needed_only_where_it_is_read(self) -> None:
        expression = compile_expression("if(kind == 'in', input, 4 * output)")

        assert values(expression, {"kind": "in", "input": "3"}, {"kind": "out", "output": "2"}) == ["3", "8"]
        with pytest.raises(UnusableProperty) as raised:
            values(expression, {"kind": "out", "input": "3"})
        assert (raised.value.name, raised.value.reason) == ("output", "MISSING_PROPERTY")

    def test_and_and_or_ask_only_what_is_not_decided(self) -> None:
        divided = {"a": "1", "b": "0"}, {"a": "1", "b": "1"}

        assert values(compile_expression("if(b != 0 and a / b == 1, 1, 0)"), *divided) == ["0", "1"]
        assert values(compile_expression("if(b == 0 or a / b == 2, 1, 0)"), *divided) == ["1", "0"]

    def test_failures_are_of_the_rows_that_fail(self) -> None:
        rows = rows_of({"a": "0"}, {"a": "2"}, {"a": "5"})

        with pytest.raises(EvaluationFailed) as raised:
            compile_expression("if(a > 4, 0, 1 / a)").evaluate(rows, [2, 1, 0])

        assert raised.value.reasons == {2: "DIVISION_BY_ZERO"}

    def test_rows_in_any_order(self) -> None:
        rows = rows_of({"a": "1"}, {"a": "2"}, {"a": "3"})

        assert compile_expression("if(a == 2, 0, a)").evaluate(rows, [2, 0, 1]) == [3, 1, 0]

    def test_a_number_that_is_none_is_refused_where_it_is_read(self) -> None:
        expression = compile_expression("if(kind == 'x', a, 0)")

        assert values(expression, {"kind": "y", "a": "many"}) == ["0"]
        with pytest.raises(UnusableProperty) as raised:
            values(expression, {"kind": "x", "a": "many"})
        assert (raised.value.name, raised.value.reason) == ("a", "NOT_A_NUMBER")

    def test_columns_of_numbers_alone_have_no_texts(self) -> None:
        for text in ("if(a == 'x', 1, 0)", "event.timestamp", "if(event.type == 'x', 1, 0)"):
            with pytest.raises(ValueError, match="needed"):
                compile_expression(text).evaluate_columns({"a": [Decimal(1)]} if "a ==" in text else {}, 1)

    @given(
        st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3)), max_size=12),
    )
    def test_columns_mean_what_single_rows_mean(self, events: list[tuple[int, int, int]]) -> None:
        expression = compile_expression(
            "if(a > b and (c == 0 or a / c > 1), max(a, b, c), if(not c == a, abs(b) - round(a / 2), min(a, -c)))"
        )

        def meaning(a: int, b: int, c: int) -> Fraction:
            if a > b and (c == 0 or Fraction(a, c) > 1):
                return Fraction(max(a, b, c))
            half_away = (abs(a) + 1) // 2 * (1 if a >= 0 else -1)
            return Fraction(abs(b) - half_away if c != a else min(a, -c))

        found = values(expression, *({"a": str(a), "b": str(b), "c": str(c)} for a, b, c in events))

        assert [Fraction(number) for number in found] == [meaning(*event) for event in events]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "wanted", "reason", "position"),
        [
            ("'x'", NUMBER, "TYPE_MISMATCH", 0),
            ("1", TEXT, "TYPE_MISMATCH", 0),
            ("1 + 'x'", NUMBER, "TYPE_MISMATCH", 4),
            ("a > 1", NUMBER, "TYPE_MISMATCH", 2),
            ("a > 1", TEXT, "TYPE_MISMATCH", 2),
            ("if(a, 1, 2)", NUMBER, "TYPE_MISMATCH", 3),
            ("if(1, 1, 2)", NUMBER, "TYPE_MISMATCH", 3),
            ("if(a > 1, 1, 'x')", NUMBER, "TYPE_MISMATCH", 13),
            ("if(a > 1, 'x', 1)", TEXT, "TYPE_MISMATCH", 15),
            ("if(a == 'x' == 'y', 1, 2)", NUMBER, "UNEXPECTED_TOKEN", 12),
            ("if(a < 'x', 1, 2)", NUMBER, "TYPE_MISMATCH", 7),
            ("if(1 == 'x', 1, 2)", NUMBER, "TYPE_MISMATCH", 8),
            ("if(a == 1 and b, 1, 2)", NUMBER, "TYPE_MISMATCH", 14),
            ("if(not a, 1, 2)", NUMBER, "TYPE_MISMATCH", 7),
            ("-event.type", NUMBER, "TYPE_MISMATCH", 1),
            ("concat(a == b)", TEXT, "TYPE_MISMATCH", 9),
            ("abs(concat('1'))", NUMBER, "TYPE_MISMATCH", 4),
            ("if(1 == 1, 2)", NUMBER, "WRONG_ARGUMENT_COUNT", 0),
            ("1 + min(1)", NUMBER, "WRONG_ARGUMENT_COUNT", 4),
            ("abs(1, 2)", NUMBER, "WRONG_ARGUMENT_COUNT", 0),
            ("round(1, 2, 3)", NUMBER, "WRONG_ARGUMENT_COUNT", 0),
            ("round(1, a)", NUMBER, "INVALID_DIGITS", 9),
            ("round(1, 1.5)", NUMBER, "INVALID_DIGITS", 9),
            ("round(1, 'x')", NUMBER, "INVALID_DIGITS", 9),
            (f"ceil(1, {MAX_ROUNDING_DIGITS + 1})", NUMBER, "INVALID_DIGITS", 8),
            (f"floor(1, -{-MIN_ROUNDING_DIGITS + 1})", NUMBER, "INVALID_DIGITS", 9),
            ("'x", TEXT, "UNTERMINATED_TEXT", 0),
            ("concat('x\", a)", TEXT, "UNTERMINATED_TEXT", 7),
            ("min()", NUMBER, "UNEXPECTED_TOKEN", 4),
            ("min(1, )", NUMBER, "UNEXPECTED_TOKEN", 7),
            ("min(1 2)", NUMBER, "UNEXPECTED_TOKEN", 6),
            ("min(1, 2", NUMBER, "UNEXPECTED_END", 8),
            ("a = 1", NUMBER, "UNEXPECTED_CHARACTER", 2),
            ("!a", NUMBER, "UNEXPECTED_CHARACTER", 0),
            ("1, 2", NUMBER, "UNEXPECTED_TOKEN", 1),
            ("sqrt(2)", NUMBER, "UNEXPECTED_TOKEN", 4),
        ],
    )
    def test_say_why_and_where(self, text: str, wanted: ValueType, reason: str, position: int) -> None:
        with pytest.raises(ExpressionRejected) as raised:
            compile_expression(text, wanted)

        assert (raised.value.reason, raised.value.position) == (reason, position)

    def test_nothing_is_measured_by_a_condition(self) -> None:
        with pytest.raises(ValueError, match="condition"):
            compile_expression("a > 1", ValueType.BOOLEAN)

    def test_calls_count_for_depth_and_nodes(self) -> None:
        assert value("abs(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) == "1"
        with pytest.raises(ExpressionRejected, match="deep"):
            compile_expression("abs(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1))
        ones = ", ".join("1" * (MAX_NODES - 1))
        assert value(f"max({ones})") == "1"
        with pytest.raises(ExpressionRejected) as raised:
            compile_expression(f"max({ones}, 1)")
        assert raised.value.reason == "TOO_COMPLEX"

    @given(st.text(alphabet="abif(),<=!'\"1. notr", max_size=30))
    def test_every_text_compiles_or_is_rejected_inside_it(self, text: str) -> None:
        for wanted in (NUMBER, TEXT):
            position = 0
            try:
                compile_expression(text, wanted)
            except ExpressionRejected as error:
                position = error.position
            assert 0 <= position <= len(text)


LARGEST = "9" * 20 + "." + "9" * 12


class TestRange:
    @pytest.mark.parametrize(
        ("text", "stays"),
        [
            ("max(a * b, 0)", True),
            ("if(a > 1, a * b, a)", True),
            ("abs(a * b)", True),
            ("round(a)", True),
            ("ceil(a, -20)", True),
            ("event.timestamp * a", True),
            ("round(a * b)", False),
            ("ceil(a * b, 12)", False),
            ("round(a / b, 2)", False),
            ("min(a / b, 1)", False),
            ("if(a / b > 1, a, b)", True),
        ],
    )
    def test_what_the_door_lets_in_decides(self, text: str, stays: bool) -> None:
        assert compile_expression(text).stays_in_range is stays

    @pytest.mark.parametrize("text", ["max(a * b, 0)", "abs(a * b)", "ceil(a, -20)", "event.timestamp * a", "round(a)"])
    @pytest.mark.parametrize("sign", ["", "-"])
    def test_the_largest_results_are_in_range(self, text: str, sign: str) -> None:
        digits = value(text, a=sign + LARGEST, b=LARGEST).lstrip("-").partition(".")

        assert len(digits[0]) <= 40
        assert len(digits[2]) <= 36

    def test_a_result_beyond_the_limits_is_refused(self) -> None:
        with pytest.raises(EvaluationFailed) as raised:
            value("round(a * b) * 10", a=LARGEST, b=LARGEST)

        assert raised.value.reasons == {0: "RESULT_OUT_OF_RANGE"}


def test_properties_of_all_parts_are_known() -> None:
    expression = compile_expression("if(event.properties.kind == 'x', round(a.b), concat_ + min(c, 1))")

    names: Sequence[str] = sorted(expression.properties)
    assert names == ["a.b", "c", "concat_", "kind"]


@dataclass(frozen=True)
class Written:
    """An expression as it is written and what it means; None where it has no value."""

    text: str
    meaning: Callable[[Mapping[str, Fraction]], Fraction | None]


def combined(function: str, first: Written, second: Written, third: Written) -> Written:
    """Of three numbers, whose conditions are comparisons of the first two."""
    texts = {
        "/": f"({first.text} / {second.text})",
        "max": f"max({first.text}, {second.text}, {third.text})",
        "abs": f"abs({first.text} - {second.text})",
        "floor": f"floor({first.text}, 1)",
        "round": f"round({first.text})",
        "if": f"if({first.text} <= {second.text}, {second.text}, {third.text})",
        "and": f"if({first.text} > 0 and 1 / {first.text} > {second.text}, {third.text}, 7)",
        "or": f"if(not ({first.text} != 0) or 1 / {first.text} < {second.text}, {third.text}, 8)",
    }

    def value_of(row: Mapping[str, Fraction]) -> Fraction | None:
        a = first.meaning(row)
        if a is None:
            return None
        if function == "floor":
            return Fraction(math.floor(a * 10), 10)
        if function == "round":
            return Fraction(math.floor(abs(a) + Fraction(1, 2)) * (1 if a >= 0 else -1))
        if function == "and" and a <= 0:
            return Fraction(7)
        if function == "or" and a == 0:
            return third.meaning(row)
        b = second.meaning(row)
        if b is None:
            return None
        c = third.meaning(row) if function == "max" else Fraction(0)
        match function:
            case "/":
                return None if b == 0 else quotient(a / b)
            case "max":
                return None if c is None else max(a, b, c)
            case "abs":
                return abs(a - b)
            case "if":
                return b if a <= b else third.meaning(row)
            case "and":
                return third.meaning(row) if quotient(1 / a) > b else Fraction(7)
            case _:
                return third.meaning(row) if quotient(1 / a) < b else Fraction(8)

    return Written(texts[function], value_of)


def quotient(exact: Fraction) -> Fraction:
    return Fraction(round(exact * 10**12), 10**12)


names = st.sampled_from("ab").map(lambda name: Written(name, lambda row: row[name]))
constants = st.integers(0, 3).map(lambda number: Written(str(number), lambda row: Fraction(number)))
functions = st.sampled_from(["/", "max", "abs", "floor", "round", "if", "and", "or"])
trees = st.recursive(names | constants, lambda inner: st.builds(combined, functions, inner, inner, inner), max_leaves=6)


class TestAgainstFractions:
    @settings(max_examples=400)
    @given(trees, st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1, max_size=5))
    def test_every_row_has_its_meaning_or_fails_by_itself(self, tree: Written, pairs: list[tuple[int, int]]) -> None:
        assume(len(tree.text) <= MAX_LENGTH)
        try:
            expression = compile_expression(tree.text)
        except ExpressionRejected as error:
            assume(error.reason not in {"TOO_COMPLEX", "TOO_DEEP"})
            raise
        rows = [{"a": Decimal(a).scaleb(-1), "b": Decimal(b).scaleb(-1)} for a, b in pairs]
        meanings = [tree.meaning({name: Fraction(number) for name, number in row.items()}) for row in rows]
        events = rows_of(*({name: plain(number) for name, number in row.items()} for row in rows))
        failing = {row: "DIVISION_BY_ZERO" for row, meaning in enumerate(meanings) if meaning is None}

        if failing:
            with pytest.raises(EvaluationFailed) as raised:
                expression.evaluate(events, events.rows)
            assert raised.value.reasons == failing
        good = [row for row in events.rows if row not in failing]
        found = [Fraction(number) for number in expression.evaluate(events, good)]
        assert found == [meaning for meaning in meanings if meaning is not None]
