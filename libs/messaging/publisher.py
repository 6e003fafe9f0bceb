"""Publishes to JetStream so that every message is stored once, however often it has to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import count

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

from libs.clock import monotonic_s
from libs.errors import Unavailable
from libs.messaging.connection import connection_of
from libs.messaging.errors import PublishUnknown, StreamFull
from libs.messaging.failures import Jitter, backoff_s, default_jitter

_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0
_FULL_FOR_S = Decimal(1)
_MESSAGE_ID = "Nats-Msg-Id"
_IN_PROCESS = 10158
"""A cluster is still agreeing on a message with this id, one that we sent before: whether it will be stored is open."""

# No reply, no stream (yet), or no connection. That the server refused is known; that it has not stored is not.
_RETRIED = (
    TimeoutError,
    OSError,
    NoStreamResponseError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.StaleConnectionError,
    nats.errors.ConnectionReconnectingError,
)
_NOT_SENT = (nats.errors.OutboundBufferLimitError, NoStreamResponseError)
_CLOSED = (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError)


@dataclass(frozen=True, slots=True)
class Published:
    """Where a message is stored; `duplicate` if it was there before under the same message id."""

    stream: str
    sequence: int
    duplicate: bool


class JetStreamPublisher:
    """At most `max_in_flight` publishes at a time, each retried under its message id for up to `deadline_s`.

    A publish timeout means unknown, never failed; the stream's duplicate window makes the retry harmless, and where
    the window is shorter than a retry takes, the consumers' own keys do.
    """

    def __init__(
        self,
        js: JetStreamContext,
        *,
        max_in_flight: int = 256,
        ack_timeout_s: float = 2.0,
        deadline_s: float = 30.0,
        jitter: Jitter = default_jitter,
    ) -> None:
        self._js = js
        self._connection = connection_of(js)
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._ack_timeout_s = ack_timeout_s
        self._deadline_s = deadline_s
        self._jitter = jitter

    async def publish(self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str]) -> None:
        """Return when the server has stored the message; see `send`."""
        await self.send(subject, payload, msg_id, headers)

    async def send(
        self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str], *, deadline_s: float | None = None
    ) -> Published:
        """Store the message with the given headers (trace context) and return where it is.

        :raises PublishUnknown: if no acknowledgement came before the deadline; retry with the same `msg_id`
        :raises StreamFull: if the stream is at its limit; the message is not stored
        :raises Unavailable: if the deadline passed before the message could be sent at all
        :raises nats.errors.Error: if the message itself is impossible (too large, bad subject or header)
        """
        ends_at = monotonic_s() + (self._deadline_s if deadline_s is None else deadline_s)
        try:
            async with asyncio.timeout(ends_at - monotonic_s()):
                await self._in_flight.acquire()
        except TimeoutError as error:
            raise Unavailable("too many messages are being published", subject=subject) from error
        try:
            return await self._send_until(ends_at, subject, payload, {**headers, _MESSAGE_ID: msg_id})
        finally:
            self._in_flight.release()

    async def _send_until(self, ends_at: float, subject: str, payload: bytes, headers: dict[str, str]) -> Published:
        unknown = False
        for attempt in count(1):
            error: Exception
            try:
                return await self._send_once(ends_at, subject, payload, headers)
            except _CLOSED as closed:
                raise PublishUnknown(f"the connection is closed: {closed}", subject=subject) from closed
            except _RETRIED as unanswered:
                error = unanswered
                unknown = unknown or not isinstance(unanswered, _NOT_SENT)
            except APIError as refused:
                if _is_full(refused) and not unknown:
                    full = f"the stream of {subject} is full"
                    raise StreamFull(full, subject=subject, retry_after_s=_FULL_FOR_S) from refused
                if (refused.code or 0) < 500 and refused.err_code != _IN_PROCESS:
                    raise
                error, unknown = refused, True
            delay_s = backoff_s(attempt, first_s=_FIRST_RETRY_S, most_s=_LAST_RETRY_S, jitter=self._jitter)
            if monotonic_s() + delay_s >= ends_at:
                message = f"no acknowledgement of {headers[_MESSAGE_ID]} after {attempt} attempts"
                raise PublishUnknown(message, subject=subject) from error
            await asyncio.sleep(delay_s)
        raise AssertionError("count() does not end")

    async def _send_once(self, ends_at: float, subject: str, payload: bytes, headers: dict[str, str]) -> Published:
        if not (self._connection.is_connected or self._connection.is_closed):
            # nats-py would raise the same, but keep an entry of each such request for ever.
            raise nats.errors.OutboundBufferLimitError
        timeout_s = min(self._ack_timeout_s, max(ends_at - monotonic_s(), 0.001))
        ack: PubAck = await self._js.publish(subject, payload, timeout=timeout_s, headers=headers)
        return Published(stream=ack.stream, sequence=ack.seq, duplicate=bool(ack.duplicate))


def _is_full(error: APIError) -> bool:
    description = error.description or ""
    return description.startswith(("maximum bytes exceeded", "maximum messages exceeded"))
