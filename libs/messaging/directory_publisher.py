"""How owners put their entries into the directory."""

from __future__ import annotations

from collections.abc import Mapping

from libs.messaging.publisher import JetStreamPublisher
from libs.messaging.subjects import subject_token


def directory_subject(kind: str, *ids: str) -> str:
    """The subject of an entry: `directory_subject("customer", "acme", "cus.1")` is `directory.customer.acme.cus%2E1`.

    :raises ValueError: if an id is empty
    """
    return ".".join(("directory", kind, *map(subject_token, ids)))


class DirectoryPublisher:
    """Puts whole values; the stream keeps the last one of each subject."""

    def __init__(self, publisher: JetStreamPublisher) -> None:
        self._publisher = publisher

    async def put(self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str] | None = None) -> int:
        """Store the value (empty: the entry is removed) and return its stream sequence, for `confirm_applied`.

        `msg_id` names the tenant, entry and version; the same id again is the same entry and gives its sequence.

        :raises PublishUnknown, StreamFull, Unavailable: see JetStreamPublisher.send
        """
        return (await self._publisher.send(subject, payload, msg_id, headers or {})).sequence
