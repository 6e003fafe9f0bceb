"""How a spool behaves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_CALL_EVENTS, MAX_CALL_BYTES = 1_000, 750_000
"""What one call may hold; the server takes a little more."""


class WhenFull(Enum):
    """What `record` does while the spool holds max_bytes."""

    BLOCK = "block"
    """Waits for room: nothing is lost, the producer stands still."""
    DROP_OLDEST = "drop_oldest"
    """Makes room: first by what the server already has and has not confirmed, then by the oldest events, which are
    lost and counted as `dropped`."""
    RAISE = "raise"
    """Raises SpoolFull: the caller decides."""


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """The defaults lose nothing that `flush` or `record(durable=True)` has returned for."""

    max_bytes: int = 1 << 30
    """Bytes of unconfirmed events on disk, all processes together; each may pass it by its buffer_bytes."""
    when_full: WhenFull = WhenFull.BLOCK
    max_dead_bytes: int = 64 << 20
    """Bytes of refused batches that are set aside. Past it they stay where they are and are tried again."""
    commit_every_s: float = 0.05
    """How long an event stays in memory at most before it is written and fsynced."""
    buffer_bytes: int = 8 << 20
    """Bytes of events in this process's memory; with more, `record` waits for the disk (or raises SpoolFull)."""
    batch_events: int = 500
    """Events of one row of the file at most. Rows are sent together, up to 1,000 events a call."""
    call_timeout_s: float = 10.0
    """Deadline of one call."""
    lease_s: float = 60.0
    """How long a row belongs to the process that took it for sending; after that to whoever comes."""
    resend_after_s: float = 300.0
    """A batch that the server has and does not record within this time is sent again; doubles each time, up to 1 h."""
    backoff_s: float = 0.1
    """First pause while the server does not answer; doubles, with jitter, up to 5 s."""

    def __post_init__(self) -> None:
        if self.max_bytes < 64 << 10:
            raise ValueError(f"max_bytes must be at least 65536, got {self.max_bytes}")
        if not 1 <= self.batch_events <= MAX_CALL_EVENTS:
            raise ValueError(f"batch_events must be 1 to {MAX_CALL_EVENTS}, got {self.batch_events}")
        if self.buffer_bytes < 1 << 10:
            raise ValueError(f"buffer_bytes must be at least 1024, got {self.buffer_bytes}")
        if self.lease_s <= self.call_timeout_s:
            raise ValueError("lease_s must be longer than call_timeout_s")
        if min(self.commit_every_s, self.call_timeout_s, self.resend_after_s, self.backoff_s) <= 0:
            raise ValueError("times must be positive")
