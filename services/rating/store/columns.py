"""Columns of set-wise statements as one text each.

asyncpg examines every element of an array for nested ones, which takes longer than all of our own work on it. So long
columns are joined here, and split with `string_to_array` in SQL (which makes no element at all of an empty text: a
column that may hold nothing but one empty text needs `coalesce(..., '')` there).
"""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = "\x1f"


def joined(texts: Iterable[str]) -> str:
    """Return a column as one text.

    :raises ValueError: if one of the texts contains the separator; no id does
    """
    column = list(texts)
    text = SEPARATOR.join(column)
    if text.count(SEPARATOR) != max(len(column) - 1, 0):
        raise ValueError("a text contains the separator of columns")
    return text


def joined_numbers(numbers: Iterable[int]) -> str:
    """Return a column of whole numbers as one text."""
    return SEPARATOR.join(map(str, numbers))
