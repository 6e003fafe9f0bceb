"""Room in the log, made before it is needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from libs.clock import Clock
from libs.database import is_outage

_logger = logging.getLogger(__name__)

_BACK = timedelta(days=8)
"""What has waited in the queue (at most seven days) goes where it was received."""
_AHEAD = timedelta(days=35)
_EVERY_S = 3600.0
_AWAY_S = 5.0


class Partitions(Protocol):
    async def ensure_partitions(self, received_at: Sequence[datetime]) -> None: ...


class PartitionsAhead:
    """Makes the monthly partitions from a week ago to a month ahead."""

    def __init__(self, partitions: Partitions, clock: Clock) -> None:
        self._partitions = partitions
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Look once an hour until `stopping` is set."""
        while not stopping.is_set():
            rest_s = _EVERY_S
            try:
                now = self._clock()
                await self._partitions.ensure_partitions([now - _BACK, now, now + _AHEAD])
            except Exception as error:
                if not is_outage(error):
                    raise
                _logger.warning("partitions wait for PostgreSQL: %r", error)
                rest_s = _AWAY_S
            try:
                await asyncio.wait_for(stopping.wait(), rest_s)
            except TimeoutError:
                continue
