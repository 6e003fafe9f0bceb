"""API keys: form, checksum, hash."""

from __future__ import annotations

import re
import secrets

import pytest

from libs.rpc.api_keys import api_key_matches, hash_api_key, new_api_key, parse_api_key


def key_text() -> str:
    return new_api_key(lambda count: bytes(range(count))).text


class TestNewApiKey:
    def test_has_the_documented_form(self) -> None:
        key = new_api_key(secrets.token_bytes)

        assert re.fullmatch(r"sy_[0-9a-f]{8}_[a-z2-7]{48}_[0-9a-f]{8}", key.text)
        assert key.text.startswith(f"sy_{key.key_id}_")
        assert api_key_matches(key.text, key.secret_hash)

    def test_id_and_secret_are_drawn_separately(self) -> None:
        drawn: list[int] = []

        def draw(count: int) -> bytes:
            drawn.append(count)
            return bytes([len(drawn)]) * count

        key = new_api_key(draw)

        assert drawn == [4, 30]
        assert key.key_id == "01010101"

    def test_does_not_show_its_secret(self) -> None:
        key = new_api_key(secrets.token_bytes)

        assert key.text not in repr(key)


class TestParseApiKey:
    def test_returns_the_id(self) -> None:
        assert parse_api_key(key_text()) == "00010203"

    @pytest.mark.parametrize(
        "mistyped",
        [
            "",
            "sy_",
            key_text()[:-1],
            key_text() + "0",
            key_text() + "\n",
            " " + key_text(),
            key_text().upper(),
            key_text().replace("sy_", "bk_"),
            key_text()[:12] + "b" + key_text()[13:],  # One character of the secret: the checksum tells.
            key_text()[:3] + "f" + key_text()[4:],
        ],
    )
    def test_refuses_what_was_not_made_here(self, mistyped: str) -> None:
        assert mistyped != key_text()
        assert parse_api_key(mistyped) is None


class TestHash:
    def test_another_key_does_not_match(self) -> None:
        assert not api_key_matches(key_text(), hash_api_key(key_text() + "x"))

    def test_is_sha256_of_the_whole_key(self) -> None:
        # echo -n abc | sha256sum
        assert hash_api_key("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
