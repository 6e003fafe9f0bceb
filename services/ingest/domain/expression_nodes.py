"""What an expression consists of: a tree of constants, things an event has, and functions of them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum


class ExpressionRejected(ValueError):
    """A text is not an expression.

    `reason` is TOO_LONG, TOO_DEEP, TOO_COMPLEX, UNEXPECTED_CHARACTER, UNEXPECTED_TOKEN, UNEXPECTED_END,
    UNTERMINATED_TEXT, INVALID_NUMBER, WRONG_ARGUMENT_COUNT, INVALID_DIGITS or TYPE_MISMATCH; `position` counts
    characters from 0.
    """

    def __init__(self, reason: str, position: int, description: str) -> None:
        super().__init__(f"{description} (at position {position})")
        self.reason = reason
        self.position = position


class ValueType(Enum):
    NUMBER = "a number"
    TEXT = "a text"
    BOOLEAN = "true or false"


class Function(Enum):
    """Operators and functions; the value is how they are written."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    NEGATE = "negate"
    EQUAL = "=="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    AND = "and"
    OR = "or"
    NOT = "not"
    IF = "if"
    MIN = "min"
    MAX = "max"
    ABS = "abs"
    ROUND = "round"
    CEIL = "ceil"
    FLOOR = "floor"
    CONCAT = "concat"
    NUMBER_TO_TEXT = "number to text"
    """Never written: `concat` applies it."""


class EventAttribute(Enum):
    """What every event has beside its properties."""

    TYPE = "type"
    """A text."""
    TIMESTAMP = "timestamp"
    """Event time in seconds since 1970, with as many decimals as it has."""


@dataclass(frozen=True, slots=True)
class Constant:
    position: int
    value: Decimal | str


@dataclass(frozen=True, slots=True)
class Property:
    """A property of the event; `type` is None until the types are checked, then NUMBER or TEXT."""

    position: int
    name: str
    type: ValueType | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    position: int
    attribute: EventAttribute


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of other nodes; `position` is where it is written."""

    position: int
    function: Function
    arguments: tuple[Node, ...]


Node = Constant | Property | Attribute | Apply
