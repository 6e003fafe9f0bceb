"""Errors to the wire and back; the component tests send them through grpc."""

from __future__ import annotations

from decimal import Decimal

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from libs.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    Kind,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Violation,
)
from libs.rpc.errors import RETRY_PUSHBACK, STATUS_DETAILS, internal_error, service_error_from, typed_errors, wire_error

VIOLATION = Violation("zone", "INVALID_ZONE", "no such zone")
ONE_OF_EACH: list[ServiceError] = [
    InvalidInput([VIOLATION], reason="INVALID_CUSTOMER", customerId="c1"),
    NotFound("no invoice inv_1", reason="INVOICE_NOT_FOUND", invoiceId="inv_1"),
    AlreadyExists("exists"),
    FailedPrecondition("not yet"),
    Aborted("changed"),
    PermissionDenied("no"),
    Unauthenticated("who"),
    DeadlineExceeded("late"),
    ResourceExhausted("full", retry_after_s=Decimal("0.25")),
    ResourceExhausted("as many as there may be"),
    Unavailable("away", retry_after_s=Decimal(30)),
]


def sent(error: ServiceError) -> grpc.aio.AioRpcError:
    wire = wire_error(error, "billing.steelyard")
    return an_rpc_error(wire.code, wire.message, wire.details)


def an_rpc_error(code: grpc.StatusCode, message: str | None, details: bytes | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata(*(((STATUS_DETAILS, details),) if details is not None else ()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=message)


class TestThereAndBack:
    @pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
    def test_keeps_everything(self, error: ServiceError) -> None:
        back = service_error_from(sent(error))

        assert back is not None
        assert type(back) is type(error)
        assert (back.message, back.reason, back.metadata) == (error.message, error.reason, error.metadata)
        assert getattr(back, "violations", None) == getattr(error, "violations", None)
        assert getattr(back, "retry_after_s", None) == getattr(error, "retry_after_s", None)

    def test_what_is_unavailable_says_when_to_come_back(self) -> None:
        back = service_error_from(sent(Unavailable("away")))

        assert isinstance(back, Unavailable)
        assert back.retry_after_s == Decimal("0.25")

    def test_every_kind_is_covered(self) -> None:
        assert {error.kind for error in ONE_OF_EACH} == set(Kind)

    def test_metadata_may_have_any_name(self) -> None:
        error = NotFound("no")
        error.metadata = {"reason": "a", "message": "b", "self": "c"}

        back = service_error_from(sent(error))

        assert back is not None
        assert back.metadata == error.metadata


class TestWireError:
    def test_says_which_service_it_is_from(self) -> None:
        status = Status.FromString(wire_error(NotFound("no"), "billing.steelyard").details)

        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        assert (status.code, status.message, info.domain) == (5, "no", "billing.steelyard")

    @pytest.mark.parametrize("text", ["x" * 5_000, "\u00e9" * 5_000, "\U0001f4a3" * 5_000])
    def test_cuts_long_messages(self, text: str) -> None:
        wire = wire_error(FailedPrecondition(text), "d")

        assert wire.message.startswith(text[:100])
        assert len(wire.message.encode()) < 520

    def test_replaces_lone_surrogates(self) -> None:
        assert wire_error(FailedPrecondition("a\ud800b"), "d").message == "a?b"

    def test_keeps_as_many_violations_as_fit(self) -> None:
        violations = [Violation(f"events[{n}].id", "REQUIRED", "must not be empty") for n in range(1_000)]

        wire = wire_error(InvalidInput(violations), "d")
        back = service_error_from(an_rpc_error(wire.code, wire.message, wire.details))

        assert isinstance(back, InvalidInput)
        assert list(back.violations) == violations[: len(back.violations)]
        assert len(back.violations) > 20
        assert len(wire.details) <= 3_200

    def test_internal_says_nothing(self) -> None:
        wire = internal_error("d")

        assert (wire.code, wire.message) == (grpc.StatusCode.INTERNAL, "internal error")


class TestServiceErrorFrom:
    @pytest.mark.parametrize("details", [None, b"", b"\xff\xff garbage"])
    def test_without_usable_details_the_code_decides(self, details: bytes | None) -> None:
        back = service_error_from(an_rpc_error(grpc.StatusCode.NOT_FOUND, None, details))

        assert isinstance(back, NotFound)
        assert (back.message, back.reason, back.metadata) == ("NOT_FOUND", "NOT_FOUND", {})

    def test_invalid_argument_always_has_a_violation(self) -> None:
        back = service_error_from(an_rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "bad"))

        assert isinstance(back, InvalidInput)
        assert back.violations == (Violation("", "INVALID_INPUT", "bad"),)

    @pytest.mark.parametrize(
        "code",
        [
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.DATA_LOSS,
            grpc.StatusCode.OUT_OF_RANGE,
        ],
    )
    def test_faults_have_no_type(self, code: grpc.StatusCode) -> None:
        error = an_rpc_error(code, "x")

        assert service_error_from(error) is None
        with pytest.raises(grpc.aio.AioRpcError) as caught, typed_errors():
            raise error
        assert caught.value is error

    def test_typed_errors_keep_their_cause(self) -> None:
        error = an_rpc_error(grpc.StatusCode.ABORTED, "x")

        with pytest.raises(Aborted) as caught, typed_errors():
            raise error

        assert caught.value.__cause__ is error


class TestPushback:
    """What makes grpc's own retries wait as RetryInfo says."""

    @staticmethod
    def pushback_ms(retry_after_s: Decimal | None) -> int:
        error = Unavailable("away", retry_after_s=retry_after_s)
        return int(dict(wire_error(error, "test.steelyard").trailers)[RETRY_PUSHBACK])

    def test_is_what_was_asked_for_and_up_to_half_more(self) -> None:
        pushbacks = [self.pushback_ms(Decimal("0.4")) for _ in range(200)]

        assert 400 <= min(pushbacks) < 440
        assert 560 < max(pushbacks) <= 600

    def test_forbids_retries_that_would_use_up_the_callers_time(self) -> None:
        assert self.pushback_ms(Decimal(30)) == -1

    def test_comes_with_everything_that_is_unavailable(self) -> None:
        assert 250 <= self.pushback_ms(None) <= 375

    def test_comes_with_nothing_that_does_not_pass(self) -> None:
        for error in (wire_error(NotFound("no"), "test.steelyard"), internal_error("test.steelyard")):
            assert dict(error.trailers).keys() == {STATUS_DETAILS}
