"""From the text of an expression to a program for a stack machine.

expression = term { ("+" | "-") term }
term       = factor { ("*" | "/") factor }
factor     = "-" factor | "(" expression ")" | number | property
number     = digits [ "." digits ]
property   = [A-Za-z_] { [A-Za-z0-9_.] }
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum

from libs.money import DecimalRejected, parse_decimal

MAX_LENGTH = 500
"""Characters."""
MAX_DEPTH = 20
"""Parentheses and signs inside each other."""
MAX_NODES = 50
"""Numbers, properties and operators."""

_TOKEN = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<property>[A-Za-z_][A-Za-z0-9_.]*)|(?P<symbol>[-+*/()])")
_BLANK = re.compile(r"[ \t\r\n]*")


class ExpressionRejected(ValueError):
    """A text is not an expression.

    `reason` is TOO_LONG, TOO_DEEP, TOO_COMPLEX, UNEXPECTED_CHARACTER, UNEXPECTED_TOKEN, UNEXPECTED_END or
    INVALID_NUMBER; `position` counts characters from 0.
    """

    def __init__(self, reason: str, position: int, description: str) -> None:
        super().__init__(f"{description} (at position {position})")
        self.reason = reason
        self.position = position


class Operator(Enum):
    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    NEGATE = "negate"


Instruction = Decimal | str | Operator
"""Push a number, push a property, or replace the topmost values of the stack by their result."""


def parse_expression(text: str) -> tuple[Instruction, ...]:
    """The program of an expression, operands before their operator.

    :raises ExpressionRejected: if the text is not an expression, or beyond the limits
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionRejected("TOO_LONG", MAX_LENGTH, f"an expression has at most {MAX_LENGTH} characters")
    return _Parser(text).parse()


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._program: list[Instruction] = []
        self._depth = 0
        self._next_token(0)

    def parse(self) -> tuple[Instruction, ...]:
        self._expression()
        if self._lexeme:
            raise self._unexpected("an operator")
        return tuple(self._program)

    def _expression(self) -> None:
        self._chain(self._term, "+-")

    def _term(self) -> None:
        self._chain(self._factor, "*/")

    def _chain(self, operand: Callable[[], None], operators: str) -> None:
        operand()
        while self._lexeme and self._lexeme in operators:
            operator, position = Operator(self._lexeme), self._position
            self._advance()
            operand()
            self._emit(operator, position)

    def _factor(self) -> None:
        position = self._position
        if self._lexeme == "-":
            self._nested(self._factor)
            self._emit(Operator.NEGATE, position)
        elif self._lexeme == "(":
            self._nested(self._expression)
            if self._lexeme != ")":
                raise self._unexpected("')'")
            self._advance()
        elif self._kind == "number":
            self._emit(self._number(), position)
            self._advance()
        elif self._kind == "property":
            self._emit(self._lexeme, position)
            self._advance()
        else:
            raise self._unexpected("a number, a property or '('")

    def _nested(self, rule: Callable[[], None]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionRejected("TOO_DEEP", self._position, f"nested more than {MAX_DEPTH} deep")
        self._advance()
        rule()
        self._depth -= 1

    def _number(self) -> Decimal:
        try:
            return parse_decimal(self._lexeme)
        except DecimalRejected as error:
            raise ExpressionRejected("INVALID_NUMBER", self._position, str(error)) from error

    def _emit(self, instruction: Instruction, position: int) -> None:
        if len(self._program) == MAX_NODES:
            raise ExpressionRejected(
                "TOO_COMPLEX", position, f"more than {MAX_NODES} numbers, properties and operators"
            )
        self._program.append(instruction)

    def _advance(self) -> None:
        self._next_token(self._position + len(self._lexeme))

    def _next_token(self, start: int) -> None:
        blank = _BLANK.match(self._text, start)
        self._position = blank.end() if blank else start
        self._kind, self._lexeme = "end", ""
        if self._position == len(self._text):
            return
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            character = self._text[self._position]
            raise ExpressionRejected("UNEXPECTED_CHARACTER", self._position, f"{character!r} means nothing here")
        self._kind, self._lexeme = match.lastgroup or "", match.group()

    def _unexpected(self, wanted: str) -> ExpressionRejected:
        if not self._lexeme:
            return ExpressionRejected("UNEXPECTED_END", self._position, f"expected {wanted}, but the text ends")
        return ExpressionRejected("UNEXPECTED_TOKEN", self._position, f"expected {wanted}, not {self._lexeme[:40]!r}")
