"""Arithmetic over the properties of an event, for meters that sum an expression.

Arithmetic is exact, but a quotient is rounded half to even to 12 decimals. An expression is compiled once; it is then
evaluated over columns: one property of all events of a batch.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from libs.money import MAX_INTEGER_DIGITS, MAX_SCALE, QUANTITY_CONTEXT
from services.ingest.domain.expression_parser import ExpressionRejected, Instruction, Operator, parse_expression

__all__ = ["EvaluationFailed", "Expression", "ExpressionRejected", "compile_expression"]

QUOTIENT_SCALE = 12
MAX_RESULT_DIGITS = 40
"""Before the decimal point: so that sums of results, times a unit price, still fit the context of quantities."""
MAX_RESULT_SCALE = 36

# ROUND_05UP never ends a rounded quotient in 0 or 5, so the second rounding cannot mistake it for a tie or for exact.
_DIVISION_CONTEXT = Context(
    prec=QUANTITY_CONTEXT.prec,
    rounding=decimal.ROUND_05UP,
    Emin=QUANTITY_CONTEXT.Emin,
    Emax=QUANTITY_CONTEXT.Emax,
    traps=[decimal.InvalidOperation, decimal.Overflow],
)
_QUOTIENT_UNIT = Decimal((0, (1,), -QUOTIENT_SCALE))
# A value with too many digits on either side of the point cannot be written as a multiple of the last place.
_RESULT_CONTEXT = Context(prec=MAX_RESULT_DIGITS + MAX_RESULT_SCALE, traps=[decimal.Inexact, decimal.InvalidOperation])
_RESULT_UNIT = Decimal((0, (1,), -MAX_RESULT_SCALE))


class EvaluationFailed(ValueError):
    """Some rows have no result; `reasons` has all of them: row -> DIVISION_BY_ZERO or RESULT_OUT_OF_RANGE."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} rows have no result, the first is row {min(reasons)}")
        self.reasons = dict(reasons)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; `properties` are the names that it reads.

    `stays_in_range`: its results cannot leave the range of results, whatever numbers the door lets in.
    """

    text: str
    program: tuple[Instruction, ...]
    properties: frozenset[str]
    stays_in_range: bool

    def evaluate_columns(self, columns: Mapping[str, Sequence[Decimal]], count: int) -> list[Decimal]:
        """The value in each of `count` rows; `columns[name][row]` is a property of a row, from `parse_decimal`.

        :raises EvaluationFailed: naming every row that divides by zero, or whose result has more than 40 digits
            before the point or 36 after it; without these rows the evaluation succeeds
        :raises ValueError: if a column has not `count` rows
        :raises KeyError: if a property has no column
        """
        needed = {name: columns[name] for name in self.properties}
        for name, column in needed.items():
            if len(column) != count:
                raise ValueError(f"column {name} has {len(column)} rows, not {count}")
        try:
            return _run(self.program, needed, count, check=not self.stays_in_range)
        except decimal.DecimalException as error:
            raise EvaluationFailed(self._failures(needed, count)) from error

    def _failures(self, columns: Mapping[str, Sequence[Decimal]], count: int) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for row in range(count):
            try:
                _run(self.program, {name: [column[row]] for name, column in columns.items()}, 1, check=True)
            except decimal.DivisionByZero:
                reasons[row] = "DIVISION_BY_ZERO"
            except decimal.DecimalException:
                reasons[row] = "RESULT_OUT_OF_RANGE"
        return reasons


def compile_expression(text: str) -> Expression:
    """Compile an expression such as `input_tokens + 4 * output_tokens`; see `expression_parser` for the grammar.

    :raises ExpressionRejected: if the text is not an expression, or beyond the limits
    """
    program = parse_expression(text)
    properties = frozenset(step for step in program if isinstance(step, str))
    return Expression(text, program, properties, _stays_in_range(program))


def _stays_in_range(program: Sequence[Instruction]) -> bool:
    """Follow the digits before and after the point, as many as there can be, through the program."""
    stack: list[tuple[int, int]] = []
    for step in program:
        if isinstance(step, Decimal):
            exponent = step.as_tuple().exponent
            assert isinstance(exponent, int)  # Grammar has neither infinities nor NaN.
            stack.append((max(step.adjusted() + 1, 1), max(-exponent, 0)))
        elif isinstance(step, str):
            stack.append((MAX_INTEGER_DIGITS, MAX_SCALE))
        elif step is Operator.DIVIDE:
            return False  # Dividing by little makes much.
        elif step is not Operator.NEGATE:
            right, left = stack.pop(), stack.pop()
            if step is Operator.MULTIPLY:
                stack.append((left[0] + right[0], left[1] + right[1]))
            else:
                stack.append((max(left[0], right[0]) + 1, max(left[1], right[1])))
    ((digits, scale),) = stack
    return digits <= MAX_RESULT_DIGITS and scale <= MAX_RESULT_SCALE


def _run(
    program: Sequence[Instruction], columns: Mapping[str, Sequence[Decimal]], count: int, *, check: bool
) -> list[Decimal]:
    """Run a program over columns of `count` rows. `map` over a context's method keeps the loops out of Python."""
    stack: list[Sequence[Decimal]] = []
    for step in program:
        if isinstance(step, Decimal):
            stack.append([step] * count)
        elif isinstance(step, str):
            stack.append(columns[step])
        elif step is Operator.NEGATE:
            stack.append(list(map(QUANTITY_CONTEXT.minus, stack.pop())))
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(list(map(_BINARY[step], left, right)))
    (result,) = stack
    if check:
        for value in result:
            _RESULT_CONTEXT.quantize(value, _RESULT_UNIT)
    return list(result)


def _quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    if not divisor:  # decimal itself calls 0/0 something else than 1/0.
        raise decimal.DivisionByZero
    quotient = _DIVISION_CONTEXT.divide(dividend, divisor)
    return quotient.quantize(_QUOTIENT_UNIT, rounding=decimal.ROUND_HALF_EVEN, context=_DIVISION_CONTEXT)


_BINARY = {
    Operator.ADD: QUANTITY_CONTEXT.add,
    Operator.SUBTRACT: QUANTITY_CONTEXT.subtract,
    Operator.MULTIPLY: QUANTITY_CONTEXT.multiply,
    Operator.DIVIDE: _quotient,
}
