"""Expected errors of ingest."""

from __future__ import annotations

from libs.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted, Unavailable


class QueueUnavailable(Unavailable):
    """Whether the events are in the queue is unknown: send them again, their ids make that safe."""

    reason = "QUEUE_UNAVAILABLE"


class OutcomeUnknown(Unavailable):
    """A batch may be in the queue or not; publish it again."""

    reason = "QUEUE_UNAVAILABLE"


class Overloaded(ResourceExhausted):
    """More is coming in than can be put into the queue; nothing of this call was taken."""

    reason = "OVERLOADED"


class MeterExists(AlreadyExists):
    reason = "METER_EXISTS"


class MeterNotFound(NotFound):
    reason = "METER_NOT_FOUND"


class EventNotFound(NotFound):
    reason = "EVENT_NOT_FOUND"


class FindingNotFound(NotFound):
    reason = "FINDING_NOT_FOUND"


class FindingAlreadyResolved(FailedPrecondition):
    reason = "FINDING_ALREADY_RESOLVED"
