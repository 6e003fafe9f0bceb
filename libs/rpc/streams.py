"""Calls in which the server streams: they live for hours, so they are counted, watched and ended by rules of their own.

A stream is asked to end (`draining`) when the server stops, and when it has become old. The latter so that streams
spread over the replicas again after a scale-up, and so that none is alive when grpc ends its connection: see
MAX_CONNECTION_GRACE_S.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from decimal import Decimal

from libs.errors import ResourceExhausted, Unavailable

LONGEST_AGE_S = 300.0
"""A stream is asked to end when it is 80 to 100 % as old."""
MAX_CONNECTION_GRACE_S = 360.0
"""How long grpc lets calls run on that began before their connection was too old. A stream that begins in the last
moment is asked to end LONGEST_AGE_S later, and has a minute for it."""
_CHECK_EVERY_S = 1.0
_RETRY_AFTER_S = Decimal(1)

_DRAINING: ContextVar[asyncio.Event] = ContextVar("draining")


def draining() -> asyncio.Event:
    """Set when the stream that is being served should end.

    :raises LookupError: outside a call in which the server streams
    """
    return _DRAINING.get()


class Streams:
    """The streams of a server: at most `most_at_once`, of which one tenant may hold `most_per_tenant`."""

    def __init__(
        self, most_at_once: int, most_per_tenant: int, *, age_s: float = LONGEST_AGE_S, check_s: float = _CHECK_EVERY_S
    ) -> None:
        self._most_at_once = most_at_once
        self._most_per_tenant = most_per_tenant
        self._age_s = age_s
        self._check_s = check_s
        self._by_tenant: Counter[str] = Counter()
        self._open: set[asyncio.Event] = set()
        self._is_stopping = False

    def drain(self) -> None:
        """Ask all streams to end, and let none in any more."""
        self._is_stopping = True
        for stream in self._open:
            stream.set()

    @asynccontextmanager
    async def held(self, tenant_id: str, check: Callable[[], object]) -> AsyncIterator[None]:
        """Count the stream while the block runs. `check` is called again and again; when it raises, the block ends.

        :raises Unavailable: STOPPING
        :raises ResourceExhausted: TOO_MANY_STREAMS
        :raises Exception: what `check` raised
        """
        if self._is_stopping:
            raise Unavailable("the server stops", reason="STOPPING", retry_after_s=_RETRY_AFTER_S)
        self._refuse_too_many(tenant_id)
        drain = asyncio.Event()
        self._open.add(drain)
        self._by_tenant[tenant_id] += 1
        token = _DRAINING.set(drain)
        age_s = self._age_s * random.uniform(0.8, 1.0)  # noqa: S311 - so that those that began together end apart
        timer = asyncio.get_running_loop().call_later(age_s, drain.set)
        try:
            async with _ended_by(check, self._check_s):
                yield
        finally:
            timer.cancel()
            _DRAINING.reset(token)
            self._open.discard(drain)
            self._by_tenant -= Counter((tenant_id,))  # Forgets tenants that hold none.

    def _refuse_too_many(self, tenant_id: str) -> None:
        held = self._by_tenant[tenant_id]
        if len(self._open) >= self._most_at_once or held >= self._most_per_tenant:
            message = f"{len(self._open)} streams are open, {held} of them yours"
            raise ResourceExhausted(message, reason="TOO_MANY_STREAMS", retry_after_s=_RETRY_AFTER_S)


@asynccontextmanager
async def _ended_by(check: Callable[[], object], every_s: float) -> AsyncIterator[None]:
    """Cancel the block when `check` raises, and raise that; the way asyncio.timeout does it."""
    task = asyncio.current_task()
    assert task is not None
    outcome: list[Exception] = []
    already_cancelled = task.cancelling()

    async def watch() -> None:
        try:
            while True:
                await asyncio.sleep(every_s)
                check()
        except Exception as error:  # Whatever it is: nobody would be watching any more.
            outcome.append(error)
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if outcome and task.uncancel() <= already_cancelled:
            raise outcome[0] from None
        raise
    finally:
        watcher.cancel()
