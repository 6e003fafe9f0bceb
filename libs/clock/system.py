"""The machine's clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Tells the current instant, aware and in UTC. Passed to whatever needs the time, so that tests decide it."""


def system_clock() -> datetime:
    """The real time in UTC."""
    return datetime.now(UTC)


def monotonic_s() -> float:
    """Seconds since an arbitrary point, never going back: for durations and deadlines only."""
    return time.monotonic()


def require_utc(at: datetime) -> datetime:
    """Return `at` unchanged.

    :raises ValueError: if it is naive or not in UTC; mixing zones is how instants get compared wrongly
    """
    offset = at.utcoffset()
    if offset is None or offset:
        raise ValueError(f"not an aware UTC datetime: {at!r}")
    return at
