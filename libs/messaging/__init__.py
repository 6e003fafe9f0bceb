"""Messages over NATS JetStream: streams, publishing, consuming, inbox and parked messages, the directory."""

from libs.messaging.batches import Handler, Park
from libs.messaging.confirmation import confirm_applied
from libs.messaging.connection import connect
from libs.messaging.consumer import PullConsumer
from libs.messaging.delivery import Delivery
from libs.messaging.directory import Applier, DirectoryReader
from libs.messaging.directory_publisher import DirectoryPublisher, directory_subject
from libs.messaging.errors import (
    DirectoryNotConfirmed,
    FloorBeyondStream,
    InboxConflict,
    PublishUnknown,
    StreamFull,
    UnreadableMessage,
)
from libs.messaging.failures import is_transient
from libs.messaging.floor import AckFloor, ack_floor
from libs.messaging.inbox import Inbox, InboxItem, inbox_table
from libs.messaging.parked import (
    TENANT_HEADER,
    UNKNOWN_TENANT,
    ParkedMessages,
    ParkedTables,
    parked_tables,
    tenant_of_message,
)
from libs.messaging.publisher import JetStreamPublisher, Published
from libs.messaging.streams import (
    BILLING,
    DIRECTORY,
    INGEST,
    PAYMENTS,
    PRODUCERS,
    RATING,
    USAGE_RAW,
    StreamDefinition,
    ensure_streams,
)
from libs.messaging.subjects import from_token, subject_token

__all__ = [
    "BILLING",
    "DIRECTORY",
    "INGEST",
    "PAYMENTS",
    "PRODUCERS",
    "RATING",
    "TENANT_HEADER",
    "UNKNOWN_TENANT",
    "USAGE_RAW",
    "AckFloor",
    "Applier",
    "Delivery",
    "DirectoryNotConfirmed",
    "DirectoryPublisher",
    "DirectoryReader",
    "FloorBeyondStream",
    "Handler",
    "Inbox",
    "InboxConflict",
    "InboxItem",
    "JetStreamPublisher",
    "Park",
    "ParkedMessages",
    "ParkedTables",
    "PublishUnknown",
    "Published",
    "PullConsumer",
    "StreamDefinition",
    "StreamFull",
    "UnreadableMessage",
    "ack_floor",
    "confirm_applied",
    "connect",
    "directory_subject",
    "ensure_streams",
    "from_token",
    "inbox_table",
    "is_transient",
    "parked_tables",
    "subject_token",
    "tenant_of_message",
]
