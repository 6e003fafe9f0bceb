"""Expected errors: typed, each with a kind (how a caller reacts) and a reason (what happened).

`libs.rpc` maps kinds to gRPC status codes; nothing else knows about the wire.
"""

from libs.errors.errors import (
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

__all__ = [
    "Aborted",
    "AlreadyExists",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidInput",
    "Kind",
    "NotFound",
    "PermissionDenied",
    "RequestIdReused",
    "ResourceExhausted",
    "ServiceError",
    "Unauthenticated",
    "Unavailable",
    "Violation",
]
