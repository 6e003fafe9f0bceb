"""The words of an expression."""

from __future__ import annotations

import re

from services.ingest.domain.expression_nodes import ExpressionRejected

_TOKEN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"""|(?P<text>'[^']*'|"[^"]*")"""
    r"|(?P<symbol>==|!=|<=|>=|[-+*/(),<>])"
)
_BLANK = re.compile(r"[ \t\r\n]*")
_CALL = re.compile(r"[ \t\r\n]*\(")
# Behind `not`: what cannot follow a property of that name.
_OPERAND = re.compile(r"""[ \t\r\n]*(?:[0-9('"]|(?!(?:and|or)\b)[A-Za-z_])""")


class Tokens:
    """A text, read token by token: `kind` (number, name, text, symbol or end), `lexeme` and `position` of the next one.

    :raises ExpressionRejected: UNEXPECTED_CHARACTER or UNTERMINATED_TEXT, from the start and from `advance`
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.kind, self.lexeme, self.position = "end", "", 0
        self._read(0)

    def advance(self) -> None:
        self._read(self.position + len(self.lexeme))

    @property
    def calls(self) -> bool:
        """Whether a parenthesis opens behind the token."""
        return _CALL.match(self._text, self.position + len(self.lexeme)) is not None

    @property
    def negates(self) -> bool:
        """Whether an operand begins behind the token, which therefore is no operand itself."""
        return _OPERAND.match(self._text, self.position + len(self.lexeme)) is not None

    def unexpected(self, wanted: str) -> ExpressionRejected:
        if not self.lexeme:
            return ExpressionRejected("UNEXPECTED_END", self.position, f"expected {wanted}, but the text ends")
        return ExpressionRejected("UNEXPECTED_TOKEN", self.position, f"expected {wanted}, not {self.lexeme[:40]!r}")

    def _read(self, start: int) -> None:
        blank = _BLANK.match(self._text, start)
        self.position = blank.end() if blank else start
        self.kind, self.lexeme = "end", ""
        if self.position == len(self._text):
            return
        match = _TOKEN.match(self._text, self.position)
        if match is not None:
            self.kind, self.lexeme = match.lastgroup or "", match.group()
            return
        character = self._text[self.position]
        if character in "'\"":
            raise ExpressionRejected("UNTERMINATED_TEXT", self.position, f"{character} opens a text that never ends")
        raise ExpressionRejected("UNEXPECTED_CHARACTER", self.position, f"{character!r} means nothing here")
