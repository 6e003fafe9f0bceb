"""How full USAGE_RAW is, so that acceptors shed load before the stream refuses."""

from __future__ import annotations

import asyncio
import logging

import nats.errors
from nats.js import JetStreamContext

from libs.messaging import USAGE_RAW

_logger = logging.getLogger(__name__)

_HIGH = 0.8
_EVERY_S = 1.0


class QueueLevel:
    """Watches the stream; `is_high` while more than 80 % of its bytes are used."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self.is_high = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Look once a second until `stopping` is set. Without an answer the last level stays."""
        while not stopping.is_set():
            try:
                stream = await self._js.stream_info(USAGE_RAW.name)
                limit = stream.config.max_bytes or 0
                is_high = limit > 0 and stream.state.bytes > _HIGH * limit
                if is_high != self.is_high:
                    _logger.warning("the queue is %s", "nearly full" if is_high else "no longer nearly full")
                self.is_high = is_high
            except (nats.errors.Error, TimeoutError) as error:
                _logger.debug("the level of the queue is unknown: %s", error)
            try:
                await asyncio.wait_for(stopping.wait(), _EVERY_S)
            except TimeoutError:
                continue
