"""JSON read exactly: numbers stay as they are written, and nothing that is ambiguous is settled in silence."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


class JsonNumber(str):
    """A number of JSON as it is written there: no digit is lost, no exponent is carried out."""

    __slots__ = ()


class NotJson(str):
    """NaN, Infinity or -Infinity, which Python and others write and JSON does not know."""

    __slots__ = ()


class RepeatedNames(dict[str, Any]):
    """An object with names that are there twice, `repeated`; it holds the other members only."""

    def __init__(self, members: dict[str, Any], repeated: list[str]) -> None:
        super().__init__(members)
        self.repeated = repeated


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(items)
    if len(members) == len(items):
        return members
    repeated = [name for name, count in Counter(name for name, _ in items).items() if count > 1]
    return RepeatedNames({name: members[name] for name in members.keys() - set(repeated)}, repeated)


EXACT_JSON = json.JSONDecoder(
    parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=NotJson, object_pairs_hook=_object
)
"""Text is str, numbers are JsonNumber. What is refused where its path is known: NotJson and RepeatedNames."""


def decode_json(text: str) -> Any:
    """Decode one JSON value.

    :raises ValueError: if it is not JSON, or too deeply nested
    """
    try:
        return EXACT_JSON.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: too deeply nested") from error


def property_text(value: object) -> str:
    """Return the text of a property: text and numbers as they are written, booleans as `true` and `false`.

    :raises TypeError: if it is none of these
    """
    if isinstance(value, NotJson):
        raise TypeError(f"{value} is no number of JSON")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if value is None:
        raise TypeError("must be text, a number or a boolean, not null")
    raise TypeError("must be text, a number or a boolean, not nested")
