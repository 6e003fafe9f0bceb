"""Expected errors of ingest."""

from __future__ import annotations

from libs.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted, Unavailable


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


class MeterLimit(FailedPrecondition):
    """The tenant has as many meters as it may have; archiving some makes room."""

    reason = "METER_LIMIT"


class MeterDefinitionFixed(FailedPrecondition):
    """The meter would measure something else: that is a new meter."""

    reason = "METER_DEFINITION_FIXED"


class MeterVersionChanged(Aborted):
    """The caller has read another version than the newest one."""

    reason = "METER_VERSION_CHANGED"


class MeterVersionLimit(FailedPrecondition):
    reason = "METER_VERSION_LIMIT"


class MeterArchived(FailedPrecondition):
    reason = "METER_ARCHIVED"


class EventNotFound(NotFound):
    reason = "EVENT_NOT_FOUND"


class FindingNotFound(NotFound):
    reason = "FINDING_NOT_FOUND"


class FindingAlreadyResolved(FailedPrecondition):
    reason = "FINDING_ALREADY_RESOLVED"


class ReplayNotFound(NotFound):
    reason = "REPLAY_NOT_FOUND"


class ReplayActive(FailedPrecondition):
    """The tenant has a replay that has not ended: confirm, cancel or await it."""

    reason = "REPLAY_ACTIVE"


class ReplayNotReady(FailedPrecondition):
    """It is being built, or has ended, or was not meant to change anything."""

    reason = "REPLAY_NOT_READY"


class ReplayNotCancellable(FailedPrecondition):
    """It changes windows already, or has ended."""

    reason = "REPLAY_NOT_CANCELLABLE"


class SealNotFound(NotFound):
    reason = "SEAL_NOT_FOUND"
