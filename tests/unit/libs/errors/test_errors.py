"""Error types: what a caller reads from them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    Kind,
    NotFound,
    PermissionDenied,
    RequestIdReused,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Violation,
)


class InvoiceNotFound(NotFound):
    reason = "INVOICE_NOT_FOUND"


class TestServiceError:
    def test_every_kind_has_exactly_one_base_type(self) -> None:
        bases: list[type[ServiceError]] = [
            InvalidInput,
            NotFound,
            AlreadyExists,
            FailedPrecondition,
            Aborted,
            PermissionDenied,
            Unauthenticated,
            ResourceExhausted,
            Unavailable,
            DeadlineExceeded,
        ]

        assert {base.kind for base in bases} == set(Kind)
        assert len(bases) == len(Kind)

    def test_a_service_names_its_reason_on_the_subclass(self) -> None:
        error = InvoiceNotFound("no invoice inv_1", invoiceId="inv_1")

        assert (error.kind, error.reason, error.message) == (Kind.NOT_FOUND, "INVOICE_NOT_FOUND", "no invoice inv_1")
        assert error.metadata == {"invoiceId": "inv_1"}

    def test_one_instance_may_override_the_reason_without_changing_its_type(self) -> None:
        error = InvoiceNotFound("gone", reason="INVOICE_DELETED")

        assert error.reason == "INVOICE_DELETED"
        assert InvoiceNotFound("other").reason == "INVOICE_NOT_FOUND"
        assert "reason" not in error.metadata

    def test_a_reused_request_id_is_a_kind_of_already_exists(self) -> None:
        error = RequestIdReused("request id r-1 was used for another request")

        assert (error.kind, error.reason) == (Kind.ALREADY_EXISTS, "REQUEST_ID_REUSED")

    @pytest.mark.parametrize("error_type", [ResourceExhausted, Unavailable])
    def test_retryable_errors_say_when_if_they_know(self, error_type: type[ResourceExhausted | Unavailable]) -> None:
        error = error_type("later", retry_after_s=Decimal("1.5"), limit="80")

        assert (error.retry_after_s, error.metadata) == (Decimal("1.5"), {"limit": "80"})
        assert error_type("later").retry_after_s is None


class TestInvalidInput:
    def test_names_every_violation(self) -> None:
        violations = [Violation("a", "REQUIRED", "must not be empty"), Violation("b[1].c", "TOO_LONG", "is too long")]

        error = InvalidInput(violations)

        assert error.violations == tuple(violations)
        assert error.message == "a: must not be empty; b[1].c: is too long"

    def test_of_is_the_single_violation(self) -> None:
        assert InvalidInput.of("a", "REQUIRED", "must not be empty").violations == (
            Violation("a", "REQUIRED", "must not be empty"),
        )

    def test_refuses_to_blame_nothing(self) -> None:
        with pytest.raises(ValueError, match="at least one violation"):
            InvalidInput([])
