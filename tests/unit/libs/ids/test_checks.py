"""Checks of ids given by clients."""

from __future__ import annotations

import pytest

from libs.errors import Violation
from libs.ids import check_request_id, check_resource_id, check_tenant_id, check_text


def reason_of(violation: Violation | None) -> str | None:
    return None if violation is None else violation.reason


class TestCheckTenantId:
    @pytest.mark.parametrize("value", ["a", "acme", "a-1", "a" * 63, "x--y"])
    def test_accepts(self, value: str) -> None:
        assert check_tenant_id(value) is None

    @pytest.mark.parametrize("value", ["1a", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "acme\n", "é", "a b", "a٣"])
    def test_refuses(self, value: str) -> None:
        assert reason_of(check_tenant_id(value)) == "INVALID_TENANT_ID"

    def test_names_the_field(self) -> None:
        assert check_tenant_id("", "parent") == Violation("parent", "REQUIRED", "must not be empty")


class TestCheckResourceId:
    @pytest.mark.parametrize("value", ["c", "cus_1", "A.b:c@d-e", "9" * 64])
    def test_accepts(self, value: str) -> None:
        assert check_resource_id(value, "customer_id") is None

    @pytest.mark.parametrize("value", ["9" * 65, "a b", "a/b", "a\n", "ü", "a*", "a>"])
    def test_refuses(self, value: str) -> None:
        violation = check_resource_id(value, "events[3].customer_id")

        assert violation is not None
        assert (violation.field, violation.reason) == ("events[3].customer_id", "INVALID_ID")

    def test_empty_is_missing(self) -> None:
        assert reason_of(check_resource_id("", "customer_id")) == "REQUIRED"


class TestCheckText:
    @pytest.mark.parametrize("value", ["x", "a b", "Zoë & söhne", "顧客", "👩‍💻", "a\u00a0b", "x" * 128])
    def test_accepts(self, value: str) -> None:
        assert check_text(value, "name", 128) is None

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("", "REQUIRED"),
            ("x" * 129, "TOO_LONG"),
            ("a\x00b", "CONTROL_CHARACTER"),
            ("a\nb", "CONTROL_CHARACTER"),
            ("a\x7f", "CONTROL_CHARACTER"),
            ("a\x85b", "CONTROL_CHARACTER"),
            ("a\u2028b", "CONTROL_CHARACTER"),
            ("a\u202eb", "CONTROL_CHARACTER"),
            ("a\ud800", "CONTROL_CHARACTER"),
            (" a", "SURROUNDING_BLANK"),
            ("a ", "SURROUNDING_BLANK"),
            ("\u00a0a", "SURROUNDING_BLANK"),
            ("a\u3000", "SURROUNDING_BLANK"),
        ],
    )
    def test_refuses(self, value: str, reason: str) -> None:
        violation = check_text(value, "name", 128)

        assert violation is not None
        assert (violation.field, violation.reason) == ("name", reason)


class TestRequestId:
    def test_a_uuid_with_or_without_hyphens_is_one(self) -> None:
        assert check_request_id("6f0f3f0e-3f43-4f0f-9d6b-3a1f3c1d9a10") is None
        assert check_request_id("6F0F3F0E3F434F0F9D6B3A1F3C1D9A10") is None

    @pytest.mark.parametrize("text", ["x", "-" * 5_000, "{6f0f3f0e-3f43-4f0f-9d6b-3a1f3c1d9a10}", "6f0f3f0e\x00"])
    def test_what_only_looks_like_one_is_refused(self, text: str) -> None:
        violation = check_request_id(text)
        assert violation is not None
        assert (violation.field, violation.reason) == ("request_id", "INVALID_UUID")

    def test_it_is_required(self) -> None:
        violation = check_request_id("")
        assert violation is not None
        assert violation.reason == "REQUIRED"
