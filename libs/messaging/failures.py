"""Which failures pass by themselves, and how long to wait for that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import nats.errors
import sqlalchemy.exc

from libs.database import is_outage, sqlstate
from libs.errors import Aborted, DeadlineExceeded, ResourceExhausted, Unavailable

Jitter = Callable[[], float]
"""A random number in [0, 1)."""

default_jitter: Jitter = random.random

_TRANSIENT_TYPES = (
    Unavailable,
    DeadlineExceeded,
    ResourceExhausted,
    Aborted,
    nats.errors.OutboundBufferLimitError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.StaleConnectionError,
    nats.errors.NoRespondersError,
)
_LOCK_NOT_AVAILABLE = "55P03"


def is_transient(error: Exception) -> bool:
    """Whether trying again later may help without anybody changing the message or the code."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return True
    return is_outage(error) or sqlstate(error) == _LOCK_NOT_AVAILABLE or isinstance(error, _TRANSIENT_TYPES)


def backoff_s(attempt: int, *, first_s: float, most_s: float, jitter: Jitter) -> float:
    """Seconds to wait after attempt 1, 2, ...: doubling from `first_s` up to `most_s`, of that 50 to 100 %."""
    doublings = min(attempt - 1, 30)  # The rest would only overflow.
    return min(most_s, first_s * (1 << doublings)) * (0.5 + jitter() / 2)


async def pause_before_rebind(stopping: asyncio.Event, failures: int) -> None:
    """Wait after the given number of failures in a row to get at a stream or consumer."""
    await pause(stopping, backoff_s(failures, first_s=0.1, most_s=2.0, jitter=default_jitter))


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Sleep, but not beyond the moment when `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
