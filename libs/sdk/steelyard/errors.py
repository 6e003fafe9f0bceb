"""Errors of the SDK.

SteelyardError
├── InvalidRequest            the call was wrong; `violations` name the fields
│   └── NotFound, AlreadyExists, FailedPrecondition
├── NotAllowed                the key is missing, wrong, revoked or not meant for this
├── Unavailable               worth another try; after a mutation the outcome is unknown, so repeat the same request_id
│   └── Overloaded, DeadlineExceeded
├── ServerError               the server failed in a way it did not expect
├── DeliveryFailed            events could not be delivered; it carries them
└── BufferFull, ClientClosed  the client itself refused
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from steelyard.events import UsageEvent

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault: its path, a stable reason and words for people."""

    field: str
    reason: str
    description: str


class SteelyardError(Exception):
    """Any failure that the SDK reports.

    `reason` is stable (UPPER_SNAKE) and meant for programs, the message for people, `metadata` holds the
    message's moving parts.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        fields = "; ".join(f"{v.field}: {v.description} ({v.reason})" for v in self.violations)
        return f"{super().__str__()}{f' [{self.reason}]' if self.reason else ''}{f': {fields}' if fields else ''}"


class InvalidRequest(SteelyardError):
    """The request cannot succeed as it is."""


class NotFound(InvalidRequest):
    """There is no such thing for this tenant."""


class AlreadyExists(InvalidRequest):
    """It exists, or the request_id was used for another request."""


class FailedPrecondition(InvalidRequest):
    """The state of things does not allow it."""


class NotAllowed(SteelyardError):
    """The credentials are missing, wrong, revoked, or not meant for this call."""


class Unavailable(SteelyardError):
    """No answer. Repeat with the same ids: nothing counts twice."""


class Overloaded(Unavailable):
    """The server sheds load; `retry_after_s` says when to come back."""


class DeadlineExceeded(Unavailable):
    """The deadline passed; the outcome is unknown."""


class ServerError(SteelyardError):
    """The server failed unexpectedly."""


class BufferFull(SteelyardError):
    """The client holds as many undelivered events as it may."""


class ClientClosed(SteelyardError):
    """The client was closed before."""


class DeliveryFailed(SteelyardError):
    """Events that could not be delivered. They may or may not have arrived: send them again with the same ids.

    `events` holds them, `__cause__` the last error.
    """

    def __init__(self, message: str, events: Sequence[UsageEvent]) -> None:
        super().__init__(message, reason="DELIVERY_FAILED")
        self.events = tuple(events)


_BY_CODE: Mapping[grpc.StatusCode, type[SteelyardError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,  # A server that shuts down answers CANCELLED to calls that just arrived.
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def error_type(code: grpc.StatusCode) -> type[SteelyardError]:
    """The error that a status code becomes."""
    return _BY_CODE.get(code, ServerError)


def error_from(error: grpc.aio.AioRpcError) -> SteelyardError:
    """Translate a failed call, with its ErrorInfo, BadRequest and RetryInfo details."""
    reason, metadata = "", dict[str, str]()
    violations: list[FieldViolation] = []
    retry_after_s: float | None = None
    for detail in _details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest.FromString(detail.value)
            violations.extend(FieldViolation(v.field, v.reason, v.description) for v in bad_request.field_violations)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_after_s = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToNanoseconds() / 1e9
    return error_type(error.code())(
        error.details() or error.code().name,
        reason=reason,
        metadata=metadata,
        violations=violations,
        retry_after_s=retry_after_s,
    )


def _details(error: grpc.aio.AioRpcError) -> Iterable[any_pb2.Any]:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                yield from status_pb2.Status.FromString(value).details
            except DecodeError:  # Not a server of ours: the code still says what to do.
                return
