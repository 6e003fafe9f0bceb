"""The types of an expression, checked when it is compiled.

A property is a text on the wire. It is read as a number where one is needed, as a text where it is compared with a text
or joined to one; two properties that are compared with each other are numbers.
"""

from __future__ import annotations

from decimal import Decimal

from libs.money import MAX_ROUNDING_DIGITS, MIN_ROUNDING_DIGITS
from services.ingest.domain.expression_nodes import (
    Apply,
    Attribute,
    Constant,
    EventAttribute,
    ExpressionRejected,
    Function,
    Node,
    Property,
    ValueType,
)

_BOOLEAN_RESULT = frozenset(
    {
        Function.EQUAL,
        Function.NOT_EQUAL,
        Function.LESS,
        Function.LESS_OR_EQUAL,
        Function.GREATER,
        Function.GREATER_OR_EQUAL,
        Function.AND,
        Function.OR,
        Function.NOT,
    }
)
_EQUALITY = frozenset({Function.EQUAL, Function.NOT_EQUAL})
_LOGIC = frozenset({Function.AND, Function.OR, Function.NOT})
_ROUNDING = frozenset({Function.ROUND, Function.CEIL, Function.FLOOR})
# Fewest and most arguments of functions; operators always have theirs.
_ARGUMENTS = {
    Function.IF: (3, 3),
    Function.MIN: (2, None),
    Function.MAX: (2, None),
    Function.ABS: (1, 1),
    Function.ROUND: (1, 2),
    Function.CEIL: (1, 2),
    Function.FLOOR: (1, 2),
}


def check_types(node: Node, wanted: ValueType) -> Node:
    """The same tree with the types of its properties.

    :raises ExpressionRejected: TYPE_MISMATCH, WRONG_ARGUMENT_COUNT or INVALID_DIGITS, and where
    """
    if isinstance(node, Property):
        if wanted is ValueType.BOOLEAN:
            description = f"expected a condition; compare {node.name} with something"
            raise ExpressionRejected("TYPE_MISMATCH", node.position, description)
        return Property(node.position, node.name, wanted)
    found = _own_type(node)
    if found is not None and found is not wanted:
        raise ExpressionRejected("TYPE_MISMATCH", node.position, f"expected {wanted.value}, not {found.value}")
    if isinstance(node, Apply):
        return Apply(node.position, node.function, _checked_arguments(node, wanted))
    return node


def _own_type(node: Node) -> ValueType | None:
    """The type that a node has whatever is wanted; None for properties and what depends on nothing else."""
    if isinstance(node, Constant):
        return ValueType.NUMBER if isinstance(node.value, Decimal) else ValueType.TEXT
    if isinstance(node, Attribute):
        return ValueType.NUMBER if node.attribute is EventAttribute.TIMESTAMP else ValueType.TEXT
    if isinstance(node, Property):
        return None
    if node.function is Function.IF:
        types = [_own_type(branch) for branch in node.arguments[1:]]
        return next((found for found in types if found is not None), None)
    if node.function is Function.CONCAT:
        return ValueType.TEXT
    return ValueType.BOOLEAN if node.function in _BOOLEAN_RESULT else ValueType.NUMBER


def _checked_arguments(node: Apply, wanted: ValueType) -> tuple[Node, ...]:
    _check_count(node)
    arguments = node.arguments
    if node.function is Function.IF:
        condition, *branches = arguments
        return (check_types(condition, ValueType.BOOLEAN), *(check_types(branch, wanted) for branch in branches))
    if node.function is Function.CONCAT:
        return tuple(map(_as_text, arguments))
    if node.function in _ROUNDING and len(arguments) == 2:
        return (check_types(arguments[0], ValueType.NUMBER), _digits(arguments[1]))
    if node.function in _EQUALITY:
        types = [_own_type(argument) for argument in arguments]
        compared = next((found for found in types if found is not None), ValueType.NUMBER)
    else:
        compared = ValueType.BOOLEAN if node.function in _LOGIC else ValueType.NUMBER
    return tuple(check_types(argument, compared) for argument in arguments)


def _check_count(node: Apply) -> None:
    fewest, most = _ARGUMENTS.get(node.function, (1, None))
    count = len(node.arguments)
    if count >= fewest and (most is None or count <= most):
        return
    wanted = str(fewest) if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
    description = f"{node.function.value} takes {wanted} arguments, not {count}"
    raise ExpressionRejected("WRONG_ARGUMENT_COUNT", node.position, description)


def _as_text(node: Node) -> Node:
    if _own_type(node) is ValueType.NUMBER:
        return Apply(node.position, Function.NUMBER_TO_TEXT, (check_types(node, ValueType.NUMBER),))
    return check_types(node, ValueType.TEXT)


def _digits(node: Node) -> Constant:
    """Digits have to be written down, so that the size of a result is known beforehand."""
    negative = isinstance(node, Apply) and node.function is Function.NEGATE
    number = node.arguments[0] if isinstance(node, Apply) and negative else node
    if isinstance(number, Constant) and isinstance(number.value, Decimal) and number.value == int(number.value):
        value = -number.value if negative else number.value
        if MIN_ROUNDING_DIGITS <= value <= MAX_ROUNDING_DIGITS:
            return Constant(node.position, value)
    description = f"digits must be written as a whole number from {MIN_ROUNDING_DIGITS} to {MAX_ROUNDING_DIGITS}"
    raise ExpressionRejected("INVALID_DIGITS", node.position, description)
