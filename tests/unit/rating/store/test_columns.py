"""Columns as one text."""

from __future__ import annotations

import pytest

from services.rating.store.columns import SEPARATOR, joined, joined_numbers


def test_texts_are_joined() -> None:
    assert joined(["a", "", "ü b"]).split(SEPARATOR) == ["a", "", "ü b"]
    assert joined_numbers([1, -2]).split(SEPARATOR) == ["1", "-2"]
    assert joined([]) == joined([""]) == ""


@pytest.mark.parametrize("texts", [[SEPARATOR], ["a", f"b{SEPARATOR}c"], ["a", SEPARATOR]])
def test_a_text_with_the_separator_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="separator"):
        joined(texts)
