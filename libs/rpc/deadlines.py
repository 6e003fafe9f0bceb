"""Deadlines: every call that is served has one, and calls made while serving it get what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar

from libs.clock import monotonic_s
from libs.errors import DeadlineExceeded

DEFAULT_TIMEOUT_S = 10.0
_REFUSED_BELOW_S = 0.005
"""With less left an answer would come too late anyway."""
_MARGIN_S = 0.02
"""Kept back from calls to peers, so that we can still say which of them was slow."""

_DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)


def remaining_s() -> float | None:
    """Seconds until the call that is being served must have its answer; None outside a call. May be negative."""
    deadline = _DEADLINE.get()
    return None if deadline is None else deadline - monotonic_s()


def outgoing_timeout_s(cap_s: float) -> float:
    """The timeout of a call to a peer: what is left of the call being served less a margin, at most `cap_s`.

    :raises DeadlineExceeded: if too little is left
    """
    left_s = remaining_s()
    if left_s is None:
        return cap_s
    if left_s - _MARGIN_S < _REFUSED_BELOW_S:
        raise DeadlineExceeded("too little time is left to call a peer")
    return min(left_s - _MARGIN_S, cap_s)


@asynccontextmanager
async def deadline(timeout_s: float | None) -> AsyncIterator[None]:
    """Run the block for at most `timeout_s` (None: 10 s), visible to it through `remaining_s`.

    :raises DeadlineExceeded: if the time is over, or almost so from the start
    """
    budget_s = DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s
    if budget_s < _REFUSED_BELOW_S:
        raise DeadlineExceeded("too little time is left to serve the call")
    token = _DEADLINE.set(monotonic_s() + budget_s)
    try:
        async with asyncio.timeout(budget_s) as scope:
            yield
    except TimeoutError as error:
        if scope.expired():
            raise DeadlineExceeded(f"not done within {budget_s:.3f} s") from error
        raise  # A timeout of something else, with time left on the call.
    finally:
        _DEADLINE.reset(token)


def own_deadline(timeout_s: float | None) -> AbstractAsyncContextManager[None]:
    """Like `deadline`, but without a `timeout_s` there is none: for streams, which may live as long as they want."""
    return nullcontext() if timeout_s is None else deadline(timeout_s)
