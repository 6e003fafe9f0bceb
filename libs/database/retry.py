"""Which errors of PostgreSQL pass, and the retry of those that it asks to be retried."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from sqlalchemy import exc

ResultT = TypeVar("ResultT")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"

# Connection exception, insufficient resources, operator intervention; then read-only and the transient ones.
_OUTAGE_CLASSES = ("08", "53", "57")
_OUTAGE_STATES = ("25006", SERIALIZATION_FAILURE, DEADLOCK_DETECTED)

MAX_ATTEMPTS = 5
_FIRST_DELAY_S = 0.02


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an asyncpg error, also when SQLAlchemy has wrapped it; None if there is none."""
    state = getattr(error, "sqlstate", None)
    if state is None and error is not None:
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state


def is_outage(error: BaseException) -> bool:
    """Return whether an error says that PostgreSQL is away, full or failing over, rather than that the code is wrong.

    A standing loop waits and goes on after it. What was being committed is unknown.
    """
    if isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, exc.InterfaceError, exc.TimeoutError)):
        return True
    state = sqlstate(error)
    if state is None:
        # What asyncpg makes of a session that the server ends while a statement is being sent.
        return isinstance(error, (asyncpg.InternalClientError, exc.InternalError))
    return state.startswith(_OUTAGE_CLASSES) or state in _OUTAGE_STATES


async def retry_transient(
    function: Callable[[], Awaitable[ResultT]],
    attempts: int = MAX_ATTEMPTS,
    *,
    jitter: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> ResultT:
    """Run a whole transaction again after a serialization failure or a deadlock.

    `function` opens its own transaction, repeats its reads, and has no effect outside the database. Before attempt
    n + 1 it waits 20 ms * 2**n times `jitter()`, which is in [0, 1). Every other error, and the last one, is raised:
    the outcome of a lost connection is unknown, and only the caller's key can tell.

    :raises ValueError: if `attempts` is not 1 to 5
    """
    if not 1 <= attempts <= MAX_ATTEMPTS:
        raise ValueError(f"attempts must be 1 to {MAX_ATTEMPTS}: {attempts}")
    for attempt in range(1, attempts):
        try:
            return await function()
        except Exception as error:
            if sqlstate(error) not in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
                raise
        await sleep(_FIRST_DELAY_S * 2**attempt * jitter())
    return await function()
