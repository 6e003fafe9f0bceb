"""A second opinion on what may pass the door, written from docs/limits.md and not from the code."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from fractions import Fraction

_DAY_NS = 86_400 * 10**9
_BIDIRECTIONAL = {0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069}


def objection_to_event(
    texts: Mapping[str, str], time_ns: int, nanos: int, properties: Mapping[str, str], now_ns: int
) -> str:
    """Return what is wrong with an event that was let in, or nothing."""
    for name, text in texts.items():
        if not is_name(text, 128):
            return f"{name} is {text!r}"
    if not -34 * _DAY_NS <= time_ns - now_ns <= _DAY_NS // 24 or not 0 <= nanos < 10**9:
        return f"its time is {time_ns}, with nanos {nanos}"
    if len(properties) > 32:
        return f"it has {len(properties)} properties"
    for key, value in properties.items():
        if not is_name(key, 64) or len(value) > 256 or chr(0) in value:
            return f"property {key!r} is {value!r}"
    return ""


def is_name(text: str, longest: int) -> bool:
    """1 to so many characters; no control characters or those that turn text around, no blank at an end."""
    if not 1 <= len(text) <= longest or text != text.strip():
        return False
    return not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or ord(character) in _BIDIRECTIONAL
        for character in text
    )


def number(text: str) -> Fraction | None:
    """The number that a text of the door means, or None if it is none or beyond the limits."""
    if len(text) > 100:
        return None
    body = text[1:] if text.startswith("-") else text
    mantissa, e, exponent = body.partition("e" if "e" in body else "E")
    whole, point, part = mantissa.partition(".")
    signless = exponent[1:] if exponent[:1] in ("+", "-") else exponent
    if not _digits(whole) or (point and not _digits(part)) or (e and not (_digits(signless) and len(signless) <= 3)):
        return None
    value = Fraction(int(whole + part), 10 ** len(part)) * Fraction(10) ** int(exponent or 0)
    if value >= 10**20 or (value * 10**12).denominator != 1:
        return None
    return -value if text.startswith("-") else value


def _digits(text: str) -> bool:
    return text != "" and all(character in "0123456789" for character in text)
