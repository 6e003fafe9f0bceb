"""Errors on the wire: canonical code, google.rpc.ErrorInfo, BadRequest and RetryInfo, in both directions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from libs.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Violation,
)

STATUS_DETAILS = "grpc-status-details-bin"
RETRY_PUSHBACK = "grpc-retry-pushback-ms"
# Trailers count against the client's metadata limit of 8 kB, beyond which it sees only RESOURCE_EXHAUSTED. There a byte
# of the message may take three (percent-encoding), and details grow by a third (base64).
_MAX_TEXT_BYTES = 512
_MAX_DETAILS_BYTES = 3_072
_NANOS = 1_000_000_000
_LONGEST_PUSHBACK_S = 1
_UNAVAILABLE_FOR_S = Decimal("0.25")

_TYPES: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode[kind.kind.name]: kind
    for kind in (
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
    )
}
_PASSED_ON = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

IsUnavailable = Callable[[Exception], bool]
"""Tells whether an exception means that a dependency (database, queue) is away, so that a retry helps."""


@dataclass(frozen=True, slots=True)
class WireError:
    """How a call ends that failed; `details` is a serialized google.rpc.Status.

    `retry_after_s` is in there, and told to grpc, too: its own retries know nothing of RetryInfo, and would come back
    three times within a second. With up to half of it added, so that those refused together return apart; or, if it is
    long, not to try again: whoever waits for the answer had better know.
    """

    code: grpc.StatusCode
    message: str
    details: bytes
    retry_after_s: Decimal | None = None

    @property
    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        details = (STATUS_DETAILS, self.details)
        if self.retry_after_s is None:
            return (details,)
        if self.retry_after_s > _LONGEST_PUSHBACK_S:
            return (details, (RETRY_PUSHBACK, "-1"))
        pushback_ms = int(self.retry_after_s * 1_000 * Decimal(random.uniform(1.0, 1.5)))  # noqa: S311 - jitter
        return (details, (RETRY_PUSHBACK, str(pushback_ms)))


def wire_error(error: ServiceError, domain: str) -> WireError:
    """Encode an expected error; very long messages and lists of violations are cut to what clients can receive.

    UNAVAILABLE always says when to come back.
    """
    code = grpc.StatusCode[error.kind.name]
    status = _status(code, error.message, error.reason, domain, error.metadata)
    retry_after_s: Decimal | None = getattr(error, "retry_after_s", None)
    if retry_after_s is None and code is grpc.StatusCode.UNAVAILABLE:
        retry_after_s = _UNAVAILABLE_FOR_S
    if retry_after_s is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_to_pb(retry_after_s)))
    if isinstance(error, InvalidInput):
        room = _MAX_DETAILS_BYTES - status.ByteSize()
        status.details.add().Pack(_bad_request(error.violations, room))
    return WireError(code, status.message, status.SerializeToString(), retry_after_s)


def internal_error(domain: str) -> WireError:
    """The answer to a fault of ours: says nothing about it, the log does."""
    status = _status(grpc.StatusCode.INTERNAL, "internal error", "INTERNAL", domain, {})
    return WireError(grpc.StatusCode.INTERNAL, status.message, status.SerializeToString())


def expected_error(error: Exception, is_unavailable: IsUnavailable) -> ServiceError | None:
    """The error that a caller may see for an exception of a handler; None if it is a fault of ours."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        # What a peer says about our call (not found, not allowed) is not true of the call that we serve.
        return service_error_from(error) if error.code() in _PASSED_ON else None
    if is_unavailable(error):
        return Unavailable("a dependency is away, try again", retry_after_s=Decimal(1))
    return None


def service_error_from(error: grpc.aio.AioRpcError) -> ServiceError | None:
    """The typed error that a peer answered, with reason, metadata, violations and retry delay.

    None for codes that no caller can act on (INTERNAL, UNKNOWN, UNIMPLEMENTED, CANCELLED ...).
    """
    status = _status_of(error)
    message = error.details() or error.code().name
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for part in (info, bad_request, retry):
            detail.Unpack(part)  # Does nothing unless the types agree.
    typed: ServiceError
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        found = [Violation(v.field, v.reason, v.description) for v in bad_request.field_violations]
        typed = InvalidInput(found or [Violation("", info.reason or InvalidInput.reason, message)])
    elif error.code() in _TYPES:
        typed = _TYPES[error.code()](message)
    else:
        return None
    if info.reason:
        typed.reason = info.reason
    typed.metadata = dict(info.metadata)
    if isinstance(typed, ResourceExhausted | Unavailable) and retry.HasField("retry_delay"):
        typed.retry_after_s = retry.retry_delay.seconds + Decimal(retry.retry_delay.nanos) / _NANOS
    return typed


@contextmanager
def typed_errors() -> Iterator[None]:
    """Calls to a peer inside this block raise a ServiceError where the peer answered one."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        typed = service_error_from(error)
        if typed is None:
            raise
        raise typed from error


def _status(
    code: grpc.StatusCode, message: str, reason: str, domain: str, metadata: dict[str, str]
) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=_cut(message))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    return status


def _cut(message: str) -> str:
    encoded = message.encode(errors="replace")  # Protobuf refuses lone surrogates.
    return (
        encoded.decode()
        if len(encoded) <= _MAX_TEXT_BYTES
        else f"{encoded[:_MAX_TEXT_BYTES].decode(errors='ignore')}..."
    )


def _bad_request(violations: tuple[Violation, ...], room: int) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    for violation in violations:
        bad_request.field_violations.add(
            field=violation.field, reason=violation.reason, description=_cut(violation.description)
        )
        if bad_request.ByteSize() > room:
            del bad_request.field_violations[-1]
            break
    return bad_request


def duration_to_pb(seconds: Decimal) -> Duration:
    """Encode a delay, such as that of RetryInfo."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * _NANOS))


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # Not ours to repair: the code and message of the call still stand.
                break
    return status_pb2.Status()
