"""The streams of the system. Each owner ensures its own; consumers wait until a stream appears."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError

_logger = logging.getLogger(__name__)

UNLIMITED = -1

_MIB = 1 << 20
_GIB = 1 << 30
_DAY_S = 86_400
_NAME_IN_USE_WITH_OTHER_CONFIGURATION = 10058


@dataclass(frozen=True, slots=True)
class StreamDefinition:
    """What may differ between streams. All keep by limits, in files, and refuse new messages when full.

    `max_bytes` counts towards the server's `max_file_store` when the stream is made; UNLIMITED (-1) does not.
    """

    name: str
    subjects: tuple[str, ...]
    max_age_s: int = 7 * _DAY_S
    max_bytes: int = UNLIMITED
    max_msg_size: int = UNLIMITED
    max_msgs_per_subject: int = UNLIMITED
    duplicate_window_s: float = 7_200
    deny_purge: bool = True

    def config(self, replicas: int) -> StreamConfig:
        """The stream's configuration for JetStream."""
        return StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_age=self.max_age_s,
            max_bytes=self.max_bytes,
            max_msg_size=self.max_msg_size,
            max_msgs_per_subject=self.max_msgs_per_subject,
            duplicate_window=self.duplicate_window_s,
            deny_delete=True,
            deny_purge=self.deny_purge,
            num_replicas=replicas,
        )


# Its keeper purges what is recorded. Message ids (one per batch) live in the server's memory, hence the short window.
USAGE_RAW = StreamDefinition(
    name="USAGE_RAW",
    subjects=("usage.raw.*", "usage.marker"),
    max_bytes=4 * _GIB,
    max_msg_size=_MIB,
    duplicate_window_s=120,
    deny_purge=False,
)
# Whoever may publish here chooses message ids, also those that another tenant's producer will use: the shortest window
# that the server takes. What is acknowledged is purged; nothing that waits ever expires.
PRODUCERS = StreamDefinition(
    name="PRODUCERS",
    subjects=("producers.*.events",),
    max_age_s=0,
    max_bytes=_GIB,
    max_msg_size=_MIB,
    duplicate_window_s=0.1,
    deny_purge=False,
)
INGEST = StreamDefinition(name="INGEST", subjects=("ingest.>",))
RATING = StreamDefinition(name="RATING", subjects=("rating.>",))
BILLING = StreamDefinition(name="BILLING", subjects=("billing.>",))
PAYMENTS = StreamDefinition(name="PAYMENTS", subjects=("payments.>",))
# Keeps the last value of each subject, for ever.
DIRECTORY = StreamDefinition(name="DIRECTORY", subjects=("directory.>",), max_age_s=0, max_msgs_per_subject=1)


async def ensure_streams(js: JetStreamContext, definitions: Sequence[StreamDefinition], *, replicas: int = 1) -> None:
    """Create the streams, or bring existing ones to their definition; several processes may do so at once.

    :raises nats.errors.Error: if the server does not answer, or refuses (for example a change it cannot make)
    """
    for definition in definitions:
        config = definition.config(replicas)
        try:
            await js.add_stream(config)
        except APIError as error:
            if error.err_code != _NAME_IN_USE_WITH_OTHER_CONFIGURATION:
                raise
            await js.update_stream(config)
            _logger.info("stream %s was updated", definition.name)
