"""Expressions over event properties: grammar, limits, exact columns."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.money import parse_decimal, plain
from services.ingest.domain.expression_parser import MAX_DEPTH, MAX_LENGTH, MAX_NODES
from services.ingest.domain.expressions import EvaluationFailed, ExpressionRejected, compile_expression


def value(text: str, **properties: str) -> str:
    columns = {name: [Decimal(number)] for name, number in properties.items()}
    (result,) = compile_expression(text).evaluate_columns(columns, 1)
    return plain(result)


class TestGrammar:
    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("1", "1"),
            ("007.50", "7.5"),
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("10 - 2 - 3", "5"),
            ("100 / 10 / 5", "2"),
            ("2 * -3", "-6"),
            ("--4", "4"),
            ("1 - -1", "2"),
            ("-(1 + 2) * 2", "-6"),
            ("\t1\n+\r1 ", "2"),
            ("((((1))))", "1"),
            ("a-b", "-1"),
        ],
    )
    def test_means_what_arithmetic_means(self, text: str, result: str) -> None:
        assert value(text, **({"a": "1", "b": "2"} if "a" in text else {})) == result

    def test_reads_properties_by_name(self) -> None:
        expression = compile_expression("usage.input_tokens + 4 * _out2 - usage.input_tokens")

        assert expression.properties == {"usage.input_tokens", "_out2"}
        columns = {"usage.input_tokens": [Decimal(5)], "_out2": [Decimal("1.5")], "unused": []}
        assert expression.evaluate_columns(columns, 1) == [6]

    @pytest.mark.parametrize(
        ("text", "reason", "position"),
        [
            ("", "UNEXPECTED_END", 0),
            ("  ", "UNEXPECTED_END", 2),
            ("1 +", "UNEXPECTED_END", 3),
            ("(1", "UNEXPECTED_END", 2),
            ("1)", "UNEXPECTED_TOKEN", 1),
            ("1 2", "UNEXPECTED_TOKEN", 2),
            ("2x", "UNEXPECTED_TOKEN", 1),
            ("1e5", "UNEXPECTED_TOKEN", 1),
            ("a b", "UNEXPECTED_TOKEN", 2),
            ("f(1)", "UNEXPECTED_TOKEN", 1),
            ("+1", "UNEXPECTED_TOKEN", 0),
            ("1 * / 2", "UNEXPECTED_TOKEN", 4),
            ("()", "UNEXPECTED_TOKEN", 1),
            ("a ** b", "UNEXPECTED_TOKEN", 3),
            ("a // b", "UNEXPECTED_TOKEN", 3),
            ("1.", "UNEXPECTED_CHARACTER", 1),
            (".5", "UNEXPECTED_CHARACTER", 0),
            ("a % b", "UNEXPECTED_CHARACTER", 2),
            ("a; b", "UNEXPECTED_CHARACTER", 1),
            ("a['x']", "UNEXPECTED_CHARACTER", 1),
            ("\u0663", "UNEXPECTED_CHARACTER", 0),
            ("1\u00a0+ 1", "UNEXPECTED_CHARACTER", 1),
            ("1 + 0.0000000000001", "INVALID_NUMBER", 4),
            ("9" * 21, "INVALID_NUMBER", 0),
        ],
    )
    def test_refuses_anything_else_and_says_where(self, text: str, reason: str, position: int) -> None:
        with pytest.raises(ExpressionRejected) as raised:
            compile_expression(text)

        assert (raised.value.reason, raised.value.position) == (reason, position)

    @given(st.text(alphabet="ab1.+-*/() ", max_size=30))
    def test_every_text_compiles_or_is_rejected_inside_it(self, text: str) -> None:
        try:
            expression = compile_expression(text)
        except ExpressionRejected as error:
            position = error.position
        else:
            position = len(expression.text)

        assert 0 <= position <= len(text)


class TestLimits:
    def test_length(self) -> None:
        longest = "a".ljust(MAX_LENGTH)

        assert compile_expression(longest).properties == {"a"}
        with pytest.raises(ExpressionRejected) as raised:
            compile_expression(longest + " ")
        assert raised.value.reason == "TOO_LONG"

    def test_depth(self) -> None:
        assert value("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) == "1"
        assert value("-" * MAX_DEPTH + "1") == "1"
        for text in ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "-" * (MAX_DEPTH + 1) + "1"):
            with pytest.raises(ExpressionRejected) as raised:
                compile_expression(text)
            assert (raised.value.reason, raised.value.position) == ("TOO_DEEP", MAX_DEPTH)

    def test_nodes(self) -> None:
        operands = MAX_NODES // 2

        assert value("+".join("1" * operands)) == str(operands)
        with pytest.raises(ExpressionRejected) as raised:
            compile_expression("+".join("1" * (operands + 1)))
        assert raised.value.reason == "TOO_COMPLEX"


class TestEvaluateColumns:
    def test_gives_one_value_per_row(self) -> None:
        columns = {"a": [Decimal(1), Decimal(2), Decimal(3)], "b": [Decimal(10), Decimal(20), Decimal(30)]}

        assert compile_expression("a * 2 + b").evaluate_columns(columns, 3) == [12, 24, 36]

    def test_needs_no_columns_for_a_constant(self) -> None:
        assert compile_expression("2.5").evaluate_columns({}, 2) == [Decimal("2.5")] * 2

    def test_no_rows_have_no_values(self) -> None:
        assert compile_expression("1 / a").evaluate_columns({"a": []}, 0) == []

    def test_does_not_hand_out_the_callers_column(self) -> None:
        column = [Decimal(1)]

        compile_expression("a").evaluate_columns({"a": column}, 1).append(Decimal(2))

        assert column == [1]

    def test_refuses_columns_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="column a has 1 rows, not 2"):
            compile_expression("a").evaluate_columns({"a": [Decimal(1)]}, 2)
        with pytest.raises(KeyError):
            compile_expression("a").evaluate_columns({}, 2)

    def test_keeps_every_digit(self) -> None:
        largest = "99999999999999999999.999999999999"

        assert value("a * a", a=largest) == "9999999999999999999999999999999800000000.000000000000000000000001"

    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("1 / 3", "0.333333333333"),
            ("2 / 3", "0.666666666667"),
            ("-2 / 3", "-0.666666666667"),
            ("0.000000000001 / 2", "0"),
            ("0.000000000003 / 2", "0.000000000002"),
            ("0.000000000005 / 2", "0.000000000002"),
            ("0 / 5", "0"),
        ],
    )
    def test_rounds_quotients_half_even_to_12_decimals(self, text: str, result: str) -> None:
        assert value(text) == result

    def test_a_quotient_just_above_a_tie_is_not_a_tie(self) -> None:
        # a / b = 5.0000000000005 + 1 / (2e12 * b): the difference is far beyond the digits that a division keeps.
        odd = 10_000_000_000_001
        b = pow(-odd, -1, 2 * 10**12) + 2 * 10**12 * 10**108
        a, remainder = divmod(odd * b + 1, 2 * 10**12)
        assert remainder == 0

        assert value("a / b", a=str(a), b=str(b)) == "5.000000000001"
        assert value("a / b", a=str(odd), b=str(2 * 10**12)) == "5"


class TestFailures:
    def test_names_every_row_without_a_result(self) -> None:
        expression = compile_expression("a / b")
        columns = {"a": [Decimal(1), Decimal(0), Decimal(6)], "b": [Decimal(0), Decimal(0), Decimal(3)]}

        with pytest.raises(EvaluationFailed) as raised:
            expression.evaluate_columns(columns, 3)

        assert raised.value.reasons == {0: "DIVISION_BY_ZERO", 1: "DIVISION_BY_ZERO"}
        kept = {name: column[2:] for name, column in columns.items()}
        assert expression.evaluate_columns(kept, 1) == [2]

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("a * a * 10", "99999999999999999999"),
            ("a * a * a * 0.1", "0.000000000001"),
            (" * ".join("a" * 25), "99999999999999999999"),
            (" * ".join("a" * 25), "0.000000000001"),
        ],
    )
    def test_a_result_beyond_the_limits_is_refused_not_rounded(self, text: str, number: str) -> None:
        with pytest.raises(EvaluationFailed) as raised:
            compile_expression(text).evaluate_columns({"a": [Decimal(1), Decimal(number)]}, 2)

        assert raised.value.reasons == {1: "RESULT_OUT_OF_RANGE"}

    def test_the_limits_themselves_are_fine(self) -> None:
        assert len(value("a * a", a="9" * 20)) == 40
        assert value("a * a * a", a="0.000000000001") == "0." + "0" * 35 + "1"


# Expressions as (text, function of the same meaning over fractions), without division.
_LEAVES: st.SearchStrategy[tuple[str, Callable[[Fraction, Fraction], Fraction]]] = st.one_of(
    st.just(("a", lambda a, b: a)),
    st.just(("b", lambda a, b: b)),
    st.integers(0, 999).map(lambda number: (str(number), lambda a, b: Fraction(number))),
)
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _combined(
    left: tuple[str, Callable[[Fraction, Fraction], Fraction]],
    sign: str,
    right: tuple[str, Callable[[Fraction, Fraction], Fraction]],
) -> tuple[str, Callable[[Fraction, Fraction], Fraction]]:
    apply = _OPERATORS[sign]
    return f"({left[0]} {sign} -{right[0]})", lambda a, b: apply(left[1](a, b), -right[1](a, b))


expressions = st.recursive(
    _LEAVES, lambda inner: st.builds(_combined, inner, st.sampled_from(sorted(_OPERATORS)), inner), max_leaves=4
)
numbers = st.integers(-(10**6), 10**6).map(lambda units: Decimal(f"{units}E-3"))


class TestAgainstFractions:
    @settings(max_examples=300)
    @given(expressions, st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
    def test_columns_agree_with_exact_fractions(
        self,
        expression: tuple[str, Callable[[Fraction, Fraction], Fraction]],
        rows: list[tuple[Decimal, Decimal]],
    ) -> None:
        text, meaning = expression
        columns = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}

        results = compile_expression(text).evaluate_columns(columns, len(rows))

        assert [Fraction(result) for result in results] == [meaning(Fraction(a), Fraction(b)) for a, b in rows]


extremes = st.sampled_from(
    [f"{sign}{number}" for sign in ("", "-") for number in ("9" * 20 + "." + "9" * 12, "0." + "0" * 11 + "1", "1")]
)


class TestRange:
    @settings(max_examples=300)
    @given(expressions, extremes.map(parse_decimal), extremes.map(parse_decimal))
    def test_results_that_are_not_checked_need_no_check(
        self, expression: tuple[str, Callable[[Fraction, Fraction], Fraction]], a: Decimal, b: Decimal
    ) -> None:
        compiled = compile_expression(expression[0])
        checked = replace(compiled, stays_in_range=False)

        try:
            expected = checked.evaluate_columns({"a": [a], "b": [b]}, 1)
        except EvaluationFailed:
            assert not compiled.stays_in_range
        else:
            assert compiled.evaluate_columns({"a": [a], "b": [b]}, 1) == expected

    @pytest.mark.parametrize(
        ("text", "stays"), [("a", True), ("a + 4 * b", True), ("a * b", True), ("a * b + 1", False), ("a / 2", False)]
    )
    def test_what_the_door_lets_in_decides(self, text: str, stays: bool) -> None:
        assert compile_expression(text).stays_in_range is stays
