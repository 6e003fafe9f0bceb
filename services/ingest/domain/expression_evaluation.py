"""Expressions evaluated column by column: each node gives its values in many rows at once.

A branch that rows do not take is never evaluated for them, so that `if(b == 0, 0, a / b)` divides by no zero: the rows
are split by the condition, each part goes its own way, and the results are put together again. So do `and` and `or`
with what their left side has not decided.
"""

from __future__ import annotations

import decimal
import operator
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from itertools import compress
from typing import Any, Protocol

from libs.money import QUANTITY_CONTEXT, QUOTIENT_SCALE, RoundingFunction, plain, round_decimal
from services.ingest.domain.expression_nodes import (
    Apply,
    Attribute,
    Constant,
    EventAttribute,
    Function,
    Node,
    ValueType,
)

# ROUND_05UP never ends a rounded quotient in 0 or 5, so the second rounding cannot mistake it for a tie or for exact.
_DIVISION_CONTEXT = Context(
    prec=QUANTITY_CONTEXT.prec,
    rounding=decimal.ROUND_05UP,
    Emin=QUANTITY_CONTEXT.Emin,
    Emax=QUANTITY_CONTEXT.Emax,
    traps=[decimal.InvalidOperation, decimal.Overflow],
)
_QUOTIENT_UNIT = Decimal((0, (1,), -QUOTIENT_SCALE))


class EventRows(Protocol):
    """Where an expression reads the rows that it is evaluated for; `rows` are their numbers, in any order."""

    def numbers(self, name: str, rows: Sequence[int]) -> Sequence[Decimal]: ...

    def texts(self, name: str, rows: Sequence[int]) -> Sequence[str]: ...

    def types(self, rows: Sequence[int]) -> Sequence[str]: ...

    def timestamps(self, rows: Sequence[int]) -> Sequence[Decimal]:
        """Seconds since 1970."""


Values = Sequence[Any]
"""Decimal, str or bool; which of them was settled when the types were checked."""


def evaluate(node: Node, events: EventRows, rows: Sequence[int]) -> Values:
    """The value of a node in each of the rows. What `events` raises goes through.

    :raises decimal.DecimalException: if a row divides by zero, or a number leaves the range of quantities
    """
    if isinstance(node, Apply):
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(node, events, rows)
        columns = [evaluate(argument, events, rows) for argument in node.arguments]
        # `map` over functions made of C keeps the loops out of Python.
        return list(map(_PLAIN[node.function], *columns))
    if isinstance(node, Constant):
        return [node.value] * len(rows)
    if isinstance(node, Attribute):
        return events.types(rows) if node.attribute is EventAttribute.TYPE else events.timestamps(rows)
    return events.numbers(node.name, rows) if node.type is ValueType.NUMBER else events.texts(node.name, rows)


def _quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    if not divisor:  # decimal itself calls 0/0 something else than 1/0.
        raise decimal.DivisionByZero
    quotient = _DIVISION_CONTEXT.divide(dividend, divisor)
    return quotient.quantize(_QUOTIENT_UNIT, rounding=decimal.ROUND_HALF_EVEN, context=_DIVISION_CONTEXT)


def _conditional(node: Apply, events: EventRows, rows: Sequence[int]) -> Values:
    condition, then, otherwise = node.arguments
    return _split(
        evaluate(condition, events, rows),
        rows,
        lambda part, taken: evaluate(then if taken else otherwise, events, part),
    )


def _conjunction(node: Apply, events: EventRows, rows: Sequence[int]) -> Values:
    left, right = node.arguments
    holds = evaluate(left, events, rows)
    return _split(holds, rows, lambda part, held: evaluate(right, events, part) if held else [False] * len(part))


def _disjunction(node: Apply, events: EventRows, rows: Sequence[int]) -> Values:
    left, right = node.arguments
    holds = evaluate(left, events, rows)
    return _split(holds, rows, lambda part, held: [True] * len(part) if held else evaluate(right, events, part))


def _split(holds: Values, rows: Sequence[int], part_values: Callable[[Sequence[int], bool], Values]) -> Values:
    """The values of the rows in which a condition holds and of the others, in the order of the rows."""
    if all(holds):
        return part_values(rows, True)
    if not any(holds):
        return part_values(rows, False)
    found = {True: iter(part_values(list(compress(rows, holds)), True))}
    found[False] = iter(part_values(list(compress(rows, map(operator.not_, holds))), False))
    return [next(found[held]) for held in holds]


def _rounded(node: Apply, events: EventRows, rows: Sequence[int]) -> Values:
    column = evaluate(node.arguments[0], events, rows)
    given = node.arguments[1] if len(node.arguments) == 2 else None
    digits = int(given.value) if isinstance(given, Constant) else 0
    function = _ROUNDING[node.function]
    return [round_decimal(value, function, digits) for value in column]


def _concat(node: Apply, events: EventRows, rows: Sequence[int]) -> Values:
    columns = [evaluate(argument, events, rows) for argument in node.arguments]
    return list(map("".join, zip(*columns, strict=True)))


_ROUNDING = {
    Function.ROUND: RoundingFunction.ROUND,
    Function.CEIL: RoundingFunction.CEIL,
    Function.FLOOR: RoundingFunction.FLOOR,
}
_SPECIAL: dict[Function, Callable[[Apply, EventRows, Sequence[int]], Values]] = {
    Function.IF: _conditional,
    Function.AND: _conjunction,
    Function.OR: _disjunction,
    Function.CONCAT: _concat,
    **dict.fromkeys(_ROUNDING, _rounded),
}
_PLAIN: dict[Function, Callable[..., Any]] = {
    Function.ADD: QUANTITY_CONTEXT.add,
    Function.SUBTRACT: QUANTITY_CONTEXT.subtract,
    Function.MULTIPLY: QUANTITY_CONTEXT.multiply,
    Function.DIVIDE: _quotient,
    Function.NEGATE: QUANTITY_CONTEXT.minus,
    Function.ABS: QUANTITY_CONTEXT.abs,
    Function.MIN: min,
    Function.MAX: max,
    Function.EQUAL: operator.eq,
    Function.NOT_EQUAL: operator.ne,
    Function.LESS: operator.lt,
    Function.LESS_OR_EQUAL: operator.le,
    Function.GREATER: operator.gt,
    Function.GREATER_OR_EQUAL: operator.ge,
    Function.NOT: operator.not_,
    Function.NUMBER_TO_TEXT: plain,
}
