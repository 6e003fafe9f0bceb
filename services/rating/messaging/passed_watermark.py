"""The watermark that rating has published last."""

from __future__ import annotations

import logging
from datetime import datetime

import nats.errors
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from libs.messaging import RATING
from services.rating.messaging.charge_feed import WATERMARK_SUBJECT
from services.rating.wire.live_charges import passed_from_bytes

_logger = logging.getLogger(__name__)


class PublishedWatermark:
    """Asks the stream: a watermark is published when all usage that it covers is rated and committed."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def __call__(self, tenant_id: str) -> datetime | None:
        """Return it; None if there is none, the queue does not answer, or it does not hold for the tenant."""
        try:
            message = await self._js.get_last_msg(RATING.name, WATERMARK_SUBJECT)
            at, holds = passed_from_bytes(message.data or b"")
        except NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError, DecodeError, ValueError, OverflowError) as error:
            _logger.info("the watermark is not known: %r", error)
            return None
        return None if tenant_id in holds else at
