from __future__ import annotations

import uuid

import pytest

from libs.errors import InvalidInput, Violation
from services.billing.usecases.request import Request, require_valid


class TestRequest:
    def test_has_the_same_fingerprint_for_the_same_meaning(self) -> None:
        assert Request.of("M", "1", "a", None).fingerprint == Request.of("M", "2", "a", None).fingerprint

    @pytest.mark.parametrize("other", [("M", "a", "b"), ("M", "ab"), ("N", "a"), ("M", "a", None)])
    def test_has_another_fingerprint_for_another_meaning(self, other: tuple[str, ...]) -> None:
        method, *meaning = other
        assert Request.of(method, "1", *meaning).fingerprint != Request.of("M", "1", "a").fingerprint

    @pytest.mark.parametrize(
        ("request_id", "reason"), [("", "REQUIRED"), ("17", "INVALID_UUID"), ("-" * 5_000 + "0" * 32, "INVALID_UUID")]
    )
    def test_needs_a_uuid(self, request_id: str, reason: str) -> None:
        other = Violation("x", "WRONG", "is wrong")
        with pytest.raises(InvalidInput) as caught:
            require_valid(request_id, [other])
        assert [item.reason for item in caught.value.violations] == [reason, "WRONG"]

    def test_is_fine_with_one(self) -> None:
        require_valid(str(uuid.uuid4()))
