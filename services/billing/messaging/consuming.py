"""What a consumer of billing subscribes to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subscription:
    """A durable consumer of some subjects of another service's stream; `batch` messages go into one transaction."""

    stream: str
    durable: str
    subjects: tuple[str, ...]
    batch: int
