from __future__ import annotations

import pytest

from services.payments.domain.method import check_token


def reasons(token: str) -> list[str]:
    return [violation.reason for violation in check_token(token, "gateway_token")]


class TestToken:
    @pytest.mark.parametrize(
        "token",
        [
            "tok_ok",
            "pm_1N3T00LkdIwHu7ixRdxpVZ2a",
            "4242424242424241",  # Luhn does not hold.
            "424242424242",  # Too short for a card.
            "x" * 255,
        ],
    )
    def test_is_taken(self, token: str) -> None:
        assert reasons(token) == []

    @pytest.mark.parametrize(
        "token",
        [
            "4242424242424242",
            "4242 4242 4242 4242",
            "4242-4242-4242-4242",
            "tok_378282246310005_x",
            "4222222222222",  # 13 digits.
            "6304000000000000000",  # 19 digits.
        ],
    )
    def test_is_no_card_number(self, token: str) -> None:
        assert reasons(token) == ["CARD_NUMBER_REFUSED"]

    @pytest.mark.parametrize(
        ("token", "reason"), [("", "REQUIRED"), ("x" * 256, "TOO_LONG"), ("tok\x00", "NOT_PRINTABLE")]
    )
    def test_is_a_short_printable_text(self, token: str, reason: str) -> None:
        assert reasons(token) == [reason]
