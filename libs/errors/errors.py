"""The error types that services subclass, one base per kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """How a caller should react; the names are the canonical RPC codes they map to."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with one field of a request.

    `field` is a path as a client writes it (`prices[2].graduated.tiers[1].up_to`), `reason` UPPER_SNAKE for
    programs, `description` for people.
    """

    field: str
    reason: str
    description: str


class ServiceError(Exception):
    """An expected failure that a caller can act on.

    Subclasses fix `kind` and `reason` (UPPER_SNAKE); the keyword `reason` overrides the latter for one instance.
    `metadata` is shown to the caller: ids and limits, never secrets.
    """

    kind: ClassVar[Kind]
    reason: str

    def __init__(self, message: str, *, reason: str | None = None, **metadata: str) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        self.metadata: dict[str, str] = metadata

    @property
    def message(self) -> str:
        return str(self)


class InvalidInput(ServiceError):
    """The request is wrong whatever the state of the system; names every violation found.

    :raises ValueError: if there is no violation to report
    """

    kind = Kind.INVALID_ARGUMENT
    reason = "INVALID_INPUT"

    def __init__(self, violations: Sequence[Violation], *, reason: str | None = None, **metadata: str) -> None:
        if not violations:
            raise ValueError("invalid input needs at least one violation")
        message = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(message, reason=reason, **metadata)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, reason: str, description: str) -> InvalidInput:
        """The common case of a single violation."""
        return cls([Violation(field, reason, description)])


class NotFound(ServiceError):
    kind = Kind.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExists(ServiceError):
    kind = Kind.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class RequestIdReused(AlreadyExists):
    """A request id was sent again with a different request."""

    reason = "REQUEST_ID_REUSED"


class FailedPrecondition(ServiceError):
    """The state of the system forbids it; a retry helps only after that state changed."""

    kind = Kind.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class Aborted(ServiceError):
    """A concurrent change won; the caller reads again and retries."""

    kind = Kind.ABORTED
    reason = "ABORTED"


class PermissionDenied(ServiceError):
    kind = Kind.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class Unauthenticated(ServiceError):
    kind = Kind.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class DeadlineExceeded(ServiceError):
    """Too little time was left, or it ran out: the outcome of a mutation is unknown."""

    kind = Kind.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class _Retryable(ServiceError):
    """Carries when to try again, in seconds (None: the caller's own backoff)."""

    def __init__(
        self, message: str, *, retry_after_s: Decimal | None = None, reason: str | None = None, **metadata: str
    ) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after_s = retry_after_s


class ResourceExhausted(_Retryable):
    """A limit of the caller or of the system is reached."""

    kind = Kind.RESOURCE_EXHAUSTED
    reason = "RESOURCE_EXHAUSTED"


class Unavailable(_Retryable):
    """A dependency is away for now; the same request may succeed later."""

    kind = Kind.UNAVAILABLE
    reason = "UNAVAILABLE"
