"""From the text of an expression to a tree.

expression = conjunct { "or" conjunct }
conjunct   = negation { "and" negation }
negation   = "not" negation | comparison
comparison = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
sum        = term { ("+" | "-") term }
term       = factor { ("*" | "/") factor }
factor     = "-" factor | "(" expression ")" | number | text | call | name
call       = function "(" expression { "," expression } ")"
number     = digits [ "." digits ]
text       = "'" { any but ' } "'", or the same with double quotes
name       = [A-Za-z_] { [A-Za-z0-9_.] }

A name is a property, also with `event.properties.` before it; `event.type`, which may be written `event.code`, and
`event.timestamp` are the event's own. Names of functions and `and`, `or`, `not` are properties where they can be
nothing else: meters of the time before there were functions keep their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from libs.money import DecimalRejected, parse_decimal
from services.ingest.domain.expression_nodes import (
    Apply,
    Attribute,
    Constant,
    EventAttribute,
    ExpressionRejected,
    Function,
    Node,
    Property,
)
from services.ingest.domain.expression_tokens import Tokens

MAX_LENGTH = 500
"""Characters."""
MAX_DEPTH = 20
"""Parentheses, signs and negations inside each other."""
MAX_NODES = 50
"""Numbers, texts, properties, operators and functions."""

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_CALLABLE = {
    item.value: item
    for item in (
        Function.IF,
        Function.MIN,
        Function.MAX,
        Function.ABS,
        Function.ROUND,
        Function.CEIL,
        Function.FLOOR,
        Function.CONCAT,
    )
}
_ATTRIBUTES = {
    "event.type": EventAttribute.TYPE,
    "event.code": EventAttribute.TYPE,
    "event.timestamp": EventAttribute.TIMESTAMP,
}
_PROPERTIES = "event.properties."


def parse_expression(text: str) -> Node:
    """The tree of an expression, whose types are not yet checked.

    :raises ExpressionRejected: if the text is not an expression, or beyond the limits
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionRejected("TOO_LONG", MAX_LENGTH, f"an expression has at most {MAX_LENGTH} characters")
    return _Parser(text).parse()


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = Tokens(text)
        self._nodes = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._expression()
        if self._tokens.lexeme:
            raise self._tokens.unexpected("an operator")
        return node

    def _expression(self) -> Node:
        return self._chain(self._conjunct, {"or"})

    def _conjunct(self) -> Node:
        return self._chain(self._negation, {"and"})

    def _negation(self) -> Node:
        position = self._tokens.position
        if self._tokens.lexeme == "not" and self._tokens.negates:
            return self._apply(position, Function.NOT, self._nested(self._negation))
        return self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        if self._tokens.lexeme not in _COMPARISONS:
            return left
        function, position = Function(self._tokens.lexeme), self._tokens.position
        self._tokens.advance()
        return self._apply(position, function, left, self._sum())

    def _sum(self) -> Node:
        return self._chain(self._term, {"+", "-"})

    def _term(self) -> Node:
        return self._chain(self._factor, {"*", "/"})

    def _chain(self, operand: Callable[[], Node], operators: set[str]) -> Node:
        node = operand()
        while self._tokens.lexeme in operators:
            function, position = Function(self._tokens.lexeme), self._tokens.position
            self._tokens.advance()
            node = self._apply(position, function, node, operand())
        return node

    def _factor(self) -> Node:
        tokens = self._tokens
        if tokens.lexeme == "-":
            position = tokens.position
            return self._apply(position, Function.NEGATE, self._nested(self._factor))
        if tokens.lexeme == "(":
            node = self._nested(self._expression)
            self._close("')'")
            return node
        if tokens.kind == "name" and tokens.lexeme in _CALLABLE and tokens.calls:
            return self._call()
        return self._operand()

    def _call(self) -> Node:
        function, position = _CALLABLE[self._tokens.lexeme], self._tokens.position
        self._tokens.advance()
        arguments = [self._nested(self._expression)]
        while self._tokens.lexeme == ",":
            arguments.append(self._nested(self._expression))
        self._close("',' or ')'")
        return self._apply(position, function, *arguments)

    def _operand(self) -> Node:
        tokens, position = self._tokens, self._tokens.position
        if tokens.kind == "number":
            node: Node = Constant(position, self._number())
        elif tokens.kind == "text":
            node = Constant(position, tokens.lexeme[1:-1])
        elif tokens.lexeme in _ATTRIBUTES:
            node = Attribute(position, _ATTRIBUTES[tokens.lexeme])
        elif tokens.kind == "name":
            node = Property(position, tokens.lexeme.removeprefix(_PROPERTIES))
        else:
            raise tokens.unexpected("a number, a text, a property or '('")
        self._count(position)
        tokens.advance()
        return node

    def _number(self) -> Decimal:
        try:
            return parse_decimal(self._tokens.lexeme)
        except DecimalRejected as error:
            raise ExpressionRejected("INVALID_NUMBER", self._tokens.position, str(error)) from error

    def _nested(self, rule: Callable[[], Node]) -> Node:
        """Read what follows the token that opens a level."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionRejected("TOO_DEEP", self._tokens.position, f"nested more than {MAX_DEPTH} deep")
        self._tokens.advance()
        node = rule()
        self._depth -= 1
        return node

    def _close(self, wanted: str) -> None:
        if self._tokens.lexeme != ")":
            raise self._tokens.unexpected(wanted)
        self._tokens.advance()

    def _apply(self, position: int, function: Function, *arguments: Node) -> Node:
        self._count(position)
        return Apply(position, function, arguments)

    def _count(self, position: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            description = f"more than {MAX_NODES} numbers, texts, properties, operators and functions"
            raise ExpressionRejected("TOO_COMPLEX", position, description)
