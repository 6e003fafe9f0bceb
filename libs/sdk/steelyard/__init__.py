"""Steelyard's SDK: send usage, ask what it costs. See Client and SyncClient."""

from steelyard.client import Client
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
from steelyard.sync_client import SyncClient

__all__ = [
    "Ack",
    "AlreadyExists",
    "BufferFull",
    "Client",
    "ClientClosed",
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
    "SteelyardError",
    "SyncClient",
    "Unavailable",
    "UsageEvent",
    "Verdict",
    "new_event_id",
]
