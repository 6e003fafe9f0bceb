"""Expressions over the properties of an event: what a meter measures in it.

Arithmetic is exact, but a quotient is rounded half to even to 12 decimals. An expression is compiled once, with its
types checked; it is then evaluated over columns: one property of all events of a batch.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from services.ingest.domain.expression_evaluation import EventRows, Values, evaluate
from services.ingest.domain.expression_nodes import Apply, ExpressionRejected, Node, Property, ValueType
from services.ingest.domain.expression_parser import parse_expression
from services.ingest.domain.expression_range import check_range, stays_in_range
from services.ingest.domain.expression_types import check_types

__all__ = ["EvaluationFailed", "EventRows", "Expression", "ExpressionRejected", "ValueType", "compile_expression"]

MAX_RESULT_LENGTH = 256
"""Characters of a text, as many as a property may have."""


class EvaluationFailed(ValueError):
    """Some rows have no result; `reasons` has all of them: row -> DIVISION_BY_ZERO, RESULT_OUT_OF_RANGE or
    RESULT_TOO_LONG."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} rows have no result, the first is row {min(reasons)}")
        self.reasons = dict(reasons)


class _TextTooLong(ValueError):
    """A result has more characters than a text may have."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression of a number or a text; `properties` are the names that it reads.

    `stays_in_range`: its results cannot leave the range of results, whatever numbers the door lets in.
    """

    text: str
    root: Node
    result_type: ValueType
    properties: frozenset[str]
    stays_in_range: bool

    def evaluate(self, events: EventRows, rows: Sequence[int]) -> Values:
        """The value in each of the rows, Decimal or str by `result_type`. What `events` raises goes through.

        :raises EvaluationFailed: naming by its place in `rows` every row that divides by zero, whose number has more
            than 40 digits before the point or 36 after it, or whose text has more than 256 characters
        """
        try:
            return self._checked(events, rows)
        except (decimal.DecimalException, _TextTooLong) as error:
            raise EvaluationFailed(self._failures(events, rows)) from error

    def evaluate_columns(self, columns: Mapping[str, Sequence[Decimal]], count: int) -> list[Decimal]:
        """The number in each of `count` rows; `columns[name][row]` is a property of a row, from `parse_decimal`.

        :raises EvaluationFailed: as `evaluate` does; without these rows the evaluation succeeds
        :raises ValueError: if a column has not `count` rows, or the expression needs more than columns of numbers
        :raises KeyError: if a property has no column
        """
        for name in self.properties:
            if len(columns[name]) != count:
                raise ValueError(f"column {name} has {len(columns[name])} rows, not {count}")
        # A copy, because an expression that is a property gives the caller's own column.
        return list(self.evaluate(_NumberColumns(columns), range(count)))

    def _checked(self, events: EventRows, rows: Sequence[int]) -> Values:
        values = evaluate(self.root, events, rows)
        if self.result_type is ValueType.TEXT:
            if max(map(len, values), default=0) > MAX_RESULT_LENGTH:
                raise _TextTooLong
        elif not self.stays_in_range:
            check_range(values)
        return values

    def _failures(self, events: EventRows, rows: Sequence[int]) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for place, row in enumerate(rows):
            try:
                self._checked(events, [row])
            except decimal.DivisionByZero:
                reasons[place] = "DIVISION_BY_ZERO"
            except decimal.DecimalException:
                reasons[place] = "RESULT_OUT_OF_RANGE"
            except _TextTooLong:
                reasons[place] = "RESULT_TOO_LONG"
        return reasons


def compile_expression(text: str, result_type: ValueType = ValueType.NUMBER) -> Expression:
    """Compile an expression such as `input_tokens + 4 * output_tokens`; see `expression_parser` for the grammar.

    :raises ExpressionRejected: if the text is not an expression of that type, or beyond the limits
    :raises ValueError: if the type is neither number nor text
    """
    if result_type is ValueType.BOOLEAN:
        raise ValueError("nothing is measured by a condition")
    root = check_types(parse_expression(text), result_type)
    in_range = result_type is ValueType.NUMBER and stays_in_range(root)
    return Expression(text, root, result_type, frozenset(_properties(root)), in_range)


def _properties(node: Node) -> Iterator[str]:
    if isinstance(node, Property):
        yield node.name
    if isinstance(node, Apply):
        for argument in node.arguments:
            yield from _properties(argument)


class _NumberColumns:
    """Rows of which nothing is known but numbers."""

    def __init__(self, columns: Mapping[str, Sequence[Decimal]]) -> None:
        self._columns = columns

    def numbers(self, name: str, rows: Sequence[int]) -> Sequence[Decimal]:
        column = self._columns[name]
        return column if isinstance(rows, range) else [column[row] for row in rows]

    def texts(self, name: str, rows: Sequence[int]) -> NoReturn:
        raise ValueError(f"{name} is needed as a text")

    def types(self, rows: Sequence[int]) -> NoReturn:
        raise ValueError("the event type is needed")

    def timestamps(self, rows: Sequence[int]) -> NoReturn:
        raise ValueError("the event time is needed")
