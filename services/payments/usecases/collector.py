"""The standing loop that collects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from libs.database import is_outage
from services.payments.usecases.collect_payments import CHUNK

_AFTER_OUTAGE_S = 1.0

_logger = logging.getLogger(__name__)


async def collect_until(
    stopping: asyncio.Event, collect: Callable[[], Awaitable[int]], *, wake: asyncio.Event, poll_s: float
) -> None:
    """Collect what is due until stopped, at once again after a full chunk.

    After less there is a rest, so that what comes meanwhile is one chunk and not a chunk each: a pass costs the same
    for one payment as for fifty. `wake` tells the relay that facts may have been committed. An outage of PostgreSQL is
    waited out: what was under way is asked for later.
    """
    while not stopping.is_set():
        rest_s = poll_s
        try:
            if count := await collect():
                wake.set()
            if count >= CHUNK:
                continue
        except Exception as error:
            if not is_outage(error):
                raise
            _logger.warning("collecting waits for PostgreSQL: %r", error)
            rest_s = _AFTER_OUTAGE_S
        try:
            await asyncio.wait_for(stopping.wait(), rest_s)
        except TimeoutError:
            continue
