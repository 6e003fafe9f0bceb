"""Steelyard's SDK: send usage, ask what it costs. See Client and SyncClient."""

from steelyard.charge_watch import ChargeUpdate
from steelyard.client import Client
from steelyard.cloud_events import (
    CloudEventsRefused,
    usage_event_from_protobuf,
    usage_events_from_json,
    usage_events_from_protobuf_batch,
)
from steelyard.delivery import Ack, DeliveryReport, EventProblem, Verdict
from steelyard.errors import (
    AlreadyExists,
    BufferFull,
    ClientClosed,
    DeadlineExceeded,
    DeliveryFailed,
    FailedPrecondition,
    FieldViolation,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Overloaded,
    ServerError,
    SteelyardError,
    Unavailable,
)
from steelyard.events import UsageEvent, new_event_id
from steelyard.settings import Endpoints, Options
from steelyard.spool import Spool, SpoolError, SpoolOptions, WhenFull
from steelyard.sync_client import SyncClient

__all__ = [
    "Ack",
    "AlreadyExists",
    "BufferFull",
    "ChargeUpdate",
    "Client",
    "ClientClosed",
    "CloudEventsRefused",
    "DeadlineExceeded",
    "DeliveryFailed",
    "DeliveryReport",
    "Endpoints",
    "EventProblem",
    "FailedPrecondition",
    "FieldViolation",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "Options",
    "Overloaded",
    "ServerError",
    "Spool",
    "SpoolError",
    "SpoolOptions",
    "SteelyardError",
    "SyncClient",
    "Unavailable",
    "UsageEvent",
    "Verdict",
    "WhenFull",
    "new_event_id",
    "usage_event_from_protobuf",
    "usage_events_from_json",
    "usage_events_from_protobuf_batch",
]
