"""Ids as tokens of NATS subjects."""

from __future__ import annotations

from urllib.parse import quote, unquote


def subject_token(text: str) -> str:
    """Return the id as one subject token: UTF-8, with all but letters, digits, `_`, `-` and `~` as %XX.

    :raises ValueError: if it is empty (NATS has no empty tokens) or not encodable
    """
    if not text:
        raise ValueError("an empty id cannot be a subject token")
    return quote(text, safe="").replace(".", "%2E")  # quote() leaves dots alone; NATS splits at them.


def from_token(token: str) -> str:
    """Return the id that `subject_token` made the token from.

    :raises ValueError: if no id gives this token
    """
    text = unquote(token, errors="strict")
    if subject_token(text) != token:
        raise ValueError(f"not a subject token: {token!r}")
    return text
