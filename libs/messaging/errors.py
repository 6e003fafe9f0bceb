"""What can go wrong between a service and JetStream, as types that callers act on."""

from __future__ import annotations

from collections.abc import Collection

from libs.errors import ResourceExhausted, Unavailable


class UnreadableMessage(Exception):
    """A message that no retry can make readable; the consumer parks it at once."""


class InboxConflict(UnreadableMessage):
    """A fact came again under the same id with another body; `keys` are its (tenant id, event id) pairs."""

    def __init__(self, consumer: str, keys: Collection[tuple[str, str]]) -> None:
        self.keys = frozenset(keys)
        listed = ", ".join(f"{tenant_id}/{event_id}" for tenant_id, event_id in sorted(self.keys))
        super().__init__(f"{consumer} received other bodies under known ids: {listed}")


class PublishUnknown(Unavailable):
    """No acknowledgement came in time: the message may be stored or not. Publish again with the same message id."""

    reason = "PUBLISH_UNKNOWN"


class StreamFull(ResourceExhausted):
    """The stream is at its size limit; the message is not stored."""

    reason = "STREAM_FULL"


class FloorBeyondStream(Exception):
    """A consumer stands behind the last message of its stream, so it would skip what is published next.

    Happens when the server lost messages that the consumer had seen (a damaged block). The remedy is to recreate the
    consumer and to replay from the owner's outbox or snapshot.
    """


class DirectoryNotConfirmed(Unavailable):
    """Some processes did not confirm in time that they have applied a directory entry."""

    reason = "DIRECTORY_NOT_CONFIRMED"

    def __init__(self, sequence: int, *, services: Collection[str], instances: Collection[str]) -> None:
        """`services` did not answer at all; `instances` (`service/instance`) answered but have not applied it."""
        self.services = frozenset(services)
        self.instances = frozenset(instances)
        names = [*(f"{service} (no answer)" for service in sorted(self.services)), *sorted(self.instances)]
        super().__init__(
            f"directory entry {sequence} is not confirmed by {', '.join(names)}",
            sequence=str(sequence),
            services=",".join(sorted(self.services)),
            instances=",".join(sorted(self.instances)),
        )
