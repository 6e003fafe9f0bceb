from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.messaging import directory_subject, from_token, subject_token

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


class TestSubjectToken:
    @given(ids)
    def test_any_id_comes_back_from_its_token(self, text: str) -> None:
        assert from_token(subject_token(text)) == text

    @given(ids)
    def test_a_token_has_only_characters_without_meaning_to_nats(self, text: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_~%-]+", subject_token(text))

    @pytest.mark.parametrize(
        ("text", "token"),
        [
            ("cus_1-a", "cus_1-a"),
            ("a.b", "a%2Eb"),
            ("a b*c>d", "a%20b%2Ac%3Ed"),
            ("100%", "100%25"),
            ("%2E", "%252E"),
            ("ü/:@", "%C3%BC%2F%3A%40"),
            (".", "%2E"),
        ],
    )
    def test_examples(self, text: str, token: str) -> None:
        assert subject_token(text) == token

    @pytest.mark.parametrize("text", ["", "\ud800"])
    def test_refuses_what_has_no_token(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            subject_token(text)


class TestFromToken:
    @pytest.mark.parametrize("token", ["", "a.b", "%2e", "%41", "%zz", "a b", "%FF", "ü"])
    def test_refuses_what_subject_token_never_writes(self, token: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            from_token(token)


class TestDirectorySubject:
    def test_escapes_each_id(self) -> None:
        assert directory_subject("customer", "acme", "cus.1") == "directory.customer.acme.cus%2E1"
