"""Where the services are and how the client behaves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_TARGETS = {
    "ingest": "STEELYARD_INGEST_TARGET",
    "query": "STEELYARD_QUERY_TARGET",
    "rating": "STEELYARD_RATING_TARGET",
    "billing": "STEELYARD_BILLING_TARGET",
    "payments": "STEELYARD_PAYMENTS_TARGET",
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """gRPC targets (host:port or dns:///name:port). One that is empty cannot be called."""

    ingest: str = ""
    query: str = ""
    rating: str = ""
    billing: str = ""
    payments: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Endpoints:
        """Read STEELYARD_INGEST_TARGET, _QUERY_, _RATING_, _BILLING_ and _PAYMENTS_TARGET."""
        return cls(**{name: environ.get(variable, "") for name, variable in _TARGETS.items()})


@dataclass(frozen=True, slots=True)
class Options:
    """How the client behaves. The defaults suit a busy producer."""

    batch_events: int = 500
    """A batch leaves when it has this many events (at most 1,000),"""
    batch_bytes: int = 512_000
    """or this many bytes (at most 768,000),"""
    linger_s: float = 0.2
    """or when its first event is this old."""
    buffer_events: int = 50_000
    """Undelivered events held before `record` waits and `record_nowait` raises BufferFull."""
    buffer_bytes: int = 64 << 20
    """The same by size: encoded bytes of undelivered events."""
    in_flight_batches: int = 4
    """Batches sent at a time, each by a call; a stream has as many under way as the server allows it."""
    stream: bool = False
    """Deliver what is recorded on one long stream instead of by a call per batch: more throughput, same guarantees."""
    number_events: bool = False
    """Number the events of each source, so that the server can report those that never came."""
    call_timeout_s: float = 10.0
    """Deadline of one call."""
    delivery_timeout_s: float = 120.0
    """How long one batch is tried again before flush raises DeliveryFailed."""
    backoff_s: float = 0.1
    """First pause between tries; doubles, with jitter, up to 5 s."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch_events <= 1000:
            raise ValueError(f"batch_events must be 1 to 1000, got {self.batch_events}")
        if not 1024 <= self.batch_bytes <= 768_000:
            raise ValueError(f"batch_bytes must be 1024 to 768000, got {self.batch_bytes}")
        if self.buffer_events < self.batch_events:
            raise ValueError("buffer_events must not be smaller than batch_events")
        if self.buffer_bytes < self.batch_bytes:
            raise ValueError("buffer_bytes must not be smaller than batch_bytes")
        if self.in_flight_batches < 1:
            raise ValueError(f"in_flight_batches must be at least 1, got {self.in_flight_batches}")
