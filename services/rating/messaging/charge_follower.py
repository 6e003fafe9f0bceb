"""Receives what rating publishes, once per process, for the streams that watch charges."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from libs.messaging import RATING
from libs.messaging.failures import pause_before_rebind
from libs.messaging.fetcher import Fetcher
from libs.messaging.latest import latest_sequence
from services.rating.messaging.charge_feed import CHARGE_SUBJECT, WATERMARK_SUBJECT
from services.rating.usecases.live_charges import LiveCharges
from services.rating.wire.live_charges import live_charges_from_pb, passed_from_bytes
from steelyard.rating.v1 import charge_pb2

_logger = logging.getLogger(__name__)

_SUBJECTS = (CHARGE_SUBJECT, WATERMARK_SUBJECT)
_BATCH = 100
_IDLE_FETCHES_BEFORE_CHECK = 3
_FORGET_CONSUMER_S = 30


class _MessagesMissed(Exception):
    """Something that was published did not arrive, or nobody can read it."""


class ChargeFollower:
    """Follows rating's stream from now on, while there is a stream that watches charges.

    With a consumer of its own that the server forgets: nothing is acknowledged or delivered again. Whenever a message
    may be missing, be it that the connection was lost, those who watch are told, and following begins anew.
    """

    def __init__(self, js: JetStreamContext, live_charges: LiveCharges) -> None:
        self._js = js
        self._live_charges = live_charges
        self._config = ConsumerConfig(
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.NONE,
            filter_subjects=list(_SUBJECTS),
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_FORGET_CONSUMER_S,
        )
        self._epoch: datetime | None = None
        self._consumer = ""
        self._received = 0
        self._last = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until `stopping` is set and nobody watches any more, which the server sees to.

        Survives restarts of the server and loss of stream or consumer.

        :raises nats.errors.ConnectionClosedError: if the connection was closed for good
        """
        failures = 0
        while True:
            await _either(self._live_charges.wanted, stopping)
            if not self._live_charges.wanted.is_set():
                return
            try:
                fetcher = await self._subscribe()
                failures = 0
                self._live_charges.follow()
                try:
                    await self._follow(fetcher)
                finally:
                    self._live_charges.interrupt("changes were not received for a moment")
                    await self._unsubscribe(fetcher)
            except nats.errors.ConnectionClosedError:
                raise
            except (nats.errors.Error, TimeoutError, _MessagesMissed) as error:
                if stopping.is_set():
                    return
                failures += 1
                level = logging.INFO if isinstance(error, NotFoundError) else logging.WARNING
                _logger.log(level, "charges are followed anew: %r", error)
                await pause_before_rebind(stopping, failures)

    async def _subscribe(self) -> Fetcher:
        """Everything that is published after this arrives."""
        before = await self._js.stream_info(RATING.name)
        consumer = await self._js.add_consumer(RATING.name, self._config)
        self._epoch, self._consumer, self._received = before.created, consumer.name, 0
        self._last = consumer.delivered.stream_seq if consumer.delivered else 0
        return await Fetcher.bind(self._js, RATING.name, consumer.name)

    async def _unsubscribe(self, fetcher: Fetcher) -> None:
        await fetcher.unsubscribe()
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # The server forgets it by itself.
            await self._js.delete_consumer(RATING.name, self._consumer)

    async def _follow(self, fetcher: Fetcher) -> None:
        idle = 0
        while self._live_charges.wanted.is_set() and not fetcher.stale:
            messages = await fetcher.fetch(_BATCH)
            for message in messages:
                self._receive(message)
            idle = 0 if messages else idle + 1
            if idle and idle % _IDLE_FETCHES_BEFORE_CHECK == 0 and not await self._is_caught_up():
                # Either it is still under way, or it was lost with a connection.
                for message in await fetcher.fetch(_BATCH):
                    self._receive(message)
                if not await self._is_caught_up():
                    raise _MessagesMissed(f"{self._received} messages arrived from {self._consumer}, not all")

    def _receive(self, message: Msg) -> None:
        sequence = message.metadata.sequence
        if sequence.consumer != self._received + 1:
            raise _MessagesMissed(f"message {sequence.consumer} came after {self._received}")
        self._received, self._last = sequence.consumer, sequence.stream
        try:
            if message.subject == WATERMARK_SUBJECT:
                self._live_charges.passed(*passed_from_bytes(message.data))
            else:
                self._offer(charge_pb2.ChargesChanged.FromString(message.data))
        except (DecodeError, ValueError, OverflowError) as error:
            raise _MessagesMissed(f"message {sequence.stream} on {message.subject} cannot be read: {error}") from error

    def _offer(self, changed: charge_pb2.ChargesChanged) -> None:
        if self._live_charges.watches(changed.tenant_id):
            self._live_charges.offer(changed.tenant_id, live_charges_from_pb(changed.charges))

    async def _is_caught_up(self) -> bool:
        """Whether everything that the stream holds by now was received. It must still be the same stream."""
        before = await self._js.stream_info(RATING.name)
        latest = await latest_sequence(self._js, RATING.name, _SUBJECTS)
        after = await self._js.stream_info(RATING.name)
        return before.created == after.created == self._epoch and latest <= self._last


async def _either(*events: asyncio.Event) -> None:
    """Return when one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
