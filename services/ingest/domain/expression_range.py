"""How large the results of an expression can become, so that most of them need no look at each value."""

from __future__ import annotations

import decimal
from collections.abc import Iterable
from decimal import Context, Decimal

from libs.money import MAX_INTEGER_DIGITS, MAX_SCALE
from services.ingest.domain.expression_nodes import Apply, Attribute, Constant, Function, Node

MAX_RESULT_DIGITS = 40
"""Before the decimal point: so that sums of results, times a unit price, still fit the context of quantities."""
MAX_RESULT_SCALE = 36

# A value with too many digits on either side of the point cannot be written as a multiple of the last place.
_RESULT_CONTEXT = Context(prec=MAX_RESULT_DIGITS + MAX_RESULT_SCALE, traps=[decimal.Inexact, decimal.InvalidOperation])
_RESULT_UNIT = Decimal((0, (1,), -MAX_RESULT_SCALE))

_Size = tuple[int, int]
"""Digits before and after the point, as many as there can be."""

_TIMESTAMP: _Size = (10, 9)  # Seconds until the year 2262, where nanoseconds in 64 bits end.
_ENDLESS: _Size = (MAX_RESULT_DIGITS + 1, MAX_RESULT_SCALE + 1)


def check_range(values: Iterable[Decimal]) -> None:
    """
    :raises decimal.DecimalException: if a value has more than 40 digits before the point or 36 after it
    """
    quantize = _RESULT_CONTEXT.quantize
    for value in values:
        quantize(value, _RESULT_UNIT)


def stays_in_range(root: Node) -> bool:
    """Whether no result of an expression of numbers can leave the limits, whatever numbers the door lets in."""
    digits, scale = _size(root)
    return digits <= MAX_RESULT_DIGITS and scale <= MAX_RESULT_SCALE


def _size(node: Node) -> _Size:
    if isinstance(node, Constant):
        return _size_of_number(node.value)
    if isinstance(node, Attribute):
        return _TIMESTAMP
    if not isinstance(node, Apply):
        return MAX_INTEGER_DIGITS, MAX_SCALE
    if node.function is Function.DIVIDE:
        return _ENDLESS  # Dividing by little makes much.
    if node.function is Function.IF:
        return _largest(node.arguments[1:])
    if node.function in (Function.ROUND, Function.CEIL, Function.FLOOR):
        return _size_of_rounded(node)
    if node.function is Function.MULTIPLY:
        left, right = map(_size, node.arguments)
        return left[0] + right[0], left[1] + right[1]
    digits, scale = _largest(node.arguments)
    return digits + (node.function in (Function.ADD, Function.SUBTRACT)), scale


def _largest(nodes: tuple[Node, ...]) -> _Size:
    sizes = [_size(node) for node in nodes]
    return max(digits for digits, _ in sizes), max(scale for _, scale in sizes)


def _size_of_rounded(node: Apply) -> _Size:
    """Rounding up may carry one digit, and to thousands makes a thousand of a unit."""
    digits, scale = _size(node.arguments[0])
    given = node.arguments[1] if len(node.arguments) == 2 else None
    to = int(given.value) if isinstance(given, Constant) else 0
    return max(digits, -to) + 1, min(scale, max(to, 0)) if scale <= MAX_RESULT_SCALE else scale


def _size_of_number(value: Decimal | str) -> _Size:
    assert isinstance(value, Decimal)  # Of an expression of numbers, whose types are checked.
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # The grammar has neither infinities nor NaN.
    return max(value.adjusted() + 1, 1), max(-exponent, 0)
