"""Fetches from a pull consumer, around the faults of nats-py 2.16."""

from __future__ import annotations

import asyncio
import logging
from typing import Self

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.messaging.connection import connection_of

_logger = logging.getLogger(__name__)

_WAKE_S = 1.0
_REST_S = 0.02
_GUARD_S = 3.0


class Fetcher:
    """One binding to a pull consumer. Make a new one after an error, and when `stale`."""

    def __init__(self, js: JetStreamContext, subscription: JetStreamContext.PullSubscription) -> None:
        self._connection = connection_of(js)
        self._subscription = subscription
        self._reconnects = self._connection.stats["reconnects"]

    @classmethod
    async def bind(cls, js: JetStreamContext, stream: str, consumer: str) -> Self:
        """Subscribe to the answers of the consumer, which must exist."""
        return cls(js, await js.pull_subscribe_bind(consumer=consumer, stream=stream))

    @property
    def stale(self) -> bool:
        """Whether the connection was lost since: the consumer may be gone, and messages under way to us are."""
        return self._connection.stats["reconnects"] != self._reconnects

    async def fetch(self, limit: int) -> list[Msg]:
        """Return 1 to `limit` messages as soon as there are any, or none after a second.

        A fetch of several stalls for its whole timeout if it follows an idle one
        (https://github.com/nats-io/nats.py/issues/986), a fetch of one does not; so one wakes us, and a short second
        fetch takes what has piled up. That one is skipped when nothing has, for the sake of latency.

        :raises nats.errors.Error: if the consumer does not exist any more, or the connection is closed or away
        """
        try:
            messages = await self._fetch(1, _WAKE_S)
        except TimeoutError:
            return []
        more = self._piled_up(messages[0], limit - 1)
        if more > 0:
            try:
                messages += await self._fetch(more, _REST_S)
            except TimeoutError:
                pass
            except nats.errors.Error as error:
                _logger.debug("second fetch failed: %s", error)  # What we have counts; the next fetch raises again.
        return messages

    async def release(self) -> None:
        """Give back what came too late for a fetch, so that it is redelivered at once, and unsubscribe."""
        try:
            while self._subscription.pending_msgs:
                for message in await self._fetch(1, _REST_S):
                    await message.nak()
        except TimeoutError:
            pass  # It was not a message but a status.
        except nats.errors.Error as error:
            _logger.debug("unfetched messages are redelivered after the ack wait: %s", error)
        await self.unsubscribe()

    async def unsubscribe(self) -> None:
        """Drop the binding with whatever comes late."""
        try:
            await self._subscription.unsubscribe()
        except nats.errors.Error as error:
            _logger.debug("not unsubscribed: %s", error)

    def _piled_up(self, first: Msg, room: int) -> int:
        # The server does not tell how many redeliveries wait. And a fetch must never ask for fewer than lie in the
        # local queue: nats-py takes them all and then asks the server for a negative number.
        metadata = first.metadata
        if metadata.num_delivered > 1 or self._subscription.pending_msgs:
            return room
        return min(room, metadata.num_pending)

    async def _fetch(self, batch: int, timeout_s: float) -> list[Msg]:
        # Timeouts come as asyncio.TimeoutError, not always as the subclass of nats.errors. The guard is for fetches
        # that never return after a server restart (https://github.com/nats-io/nats.py/issues/504).
        return await asyncio.wait_for(self._subscription.fetch(batch, timeout=timeout_s), timeout_s + _GUARD_S)
