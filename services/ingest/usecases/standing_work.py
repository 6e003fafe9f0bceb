"""The loop of the jobs that stand beside recording."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from libs.database import is_outage

_logger = logging.getLogger(__name__)

_AWAY_S = 5.0


async def repeat(name: str, work: Callable[[], Awaitable[float]], stopping: asyncio.Event) -> None:
    """Call `work` until `stopping` is set, and rest for as many seconds as it returns.

    An outage of PostgreSQL is logged and waited out; any other error is raised.
    """
    while not stopping.is_set():
        try:
            rest_s = await work()
        except Exception as error:
            if not is_outage(error):
                raise
            _logger.warning("%s: waits while PostgreSQL is away: %r", name, error)
            rest_s = _AWAY_S
        try:
            await asyncio.wait_for(stopping.wait(), rest_s)
        except TimeoutError:
            continue
