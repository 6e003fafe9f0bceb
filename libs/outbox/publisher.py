"""What the relays need of a message broker."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from opentelemetry import propagate

_logger = logging.getLogger(__name__)


class Publisher(Protocol):
    """Publishes durably; `libs.messaging` has the one over JetStream."""

    async def publish(self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str]) -> None:
        """Return once the broker has the message on disk (also if it had it before, by its `msg_id`).

        :raises Exception: if that is not known; the relay then publishes it again under the same `msg_id`
        """


def trace_headers() -> dict[str, str]:
    """Return the W3C trace context of the current span as headers; empty without a span."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


async def acknowledged(
    publisher: Publisher, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str]
) -> bool:
    """Publish, and return whether the broker is known to have the message; if not, the reason is logged."""
    try:
        await publisher.publish(subject, payload, msg_id, headers)
    except Exception:
        _logger.warning("%s on %s was not acknowledged and will be sent again", msg_id, subject, exc_info=True)
        return False
    return True
