"""The standing loop that lets ingest's watermarks count and passes them on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import nats.errors
from nats.js import JetStreamContext

from libs.database import is_outage
from libs.errors import Unavailable
from libs.messaging import INGEST, FloorBeyondStream, ack_floor
from libs.messaging.failures import pause
from services.rating.messaging.usage_consumer import DURABLE
from services.rating.usecases.forward_watermark import ForwardWatermark

_logger = logging.getLogger(__name__)

_LOOK_S = 0.2
_AFTER_FAILURE_S = 1.0


class WatermarkLoop:
    """Asks JetStream every 200 ms how far the usage consumer has come."""

    def __init__(
        self, js: JetStreamContext, forward_watermark: ForwardWatermark, on_forwarded: Callable[[datetime], None]
    ) -> None:
        self._js = js
        self._forward_watermark = forward_watermark
        self._on_forwarded = on_forwarded

    async def run(self, stopping: asyncio.Event) -> None:
        """Pass watermarks on until `stopping` is set."""
        while not stopping.is_set():
            rest_s = _LOOK_S
            try:
                floor = await ack_floor(self._js, INGEST.name, DURABLE)
                forwarded = await self._forward_watermark(floor.stream_epoch, floor.consumer_stream_seq)
                if forwarded is not None:
                    self._on_forwarded(forwarded)
            except (nats.errors.Error, TimeoutError, Unavailable, FloorBeyondStream) as error:
                _logger.info("no watermark passes: %r", error)  # The consumer repairs itself.
                rest_s = _AFTER_FAILURE_S
            except Exception as error:
                if not is_outage(error):
                    raise
                _logger.warning("watermarks wait for PostgreSQL", exc_info=True)
                rest_s = _AFTER_FAILURE_S
            await pause(stopping, rest_s)
