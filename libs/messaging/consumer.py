"""The loop of a durable pull consumer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from libs.clock import monotonic_s
from libs.errors import Unavailable
from libs.messaging.batches import BatchProcessor, Handler, OpenMessage, Park
from libs.messaging.delivery import Delivery, delivery_from_message
from libs.messaging.errors import FloorBeyondStream
from libs.messaging.failures import pause_before_rebind
from libs.messaging.fetcher import Fetcher
from libs.messaging.floor import ack_floor
from libs.messaging.tracing import batch_span

_logger = logging.getLogger(__name__)

_IDLE_FETCHES_BEFORE_CHECK = 3
_AWAY = (nats.errors.Error, TimeoutError, Unavailable)


class PullConsumer:
    """Gives every message of some subjects to a handler, at least once, in fetched batches.

    A message is acknowledged only after the handler returned, that is after its transaction committed. New messages
    and redeliveries are handled apart, so that what fails disturbs the others once at most. Order is that of the
    stream only as long as nothing fails and one process consumes. Several processes may share a durable.
    """

    def __init__(
        self,
        js: JetStreamContext,
        *,
        stream: str,
        durable: str,
        subjects: Sequence[str],
        handler: Handler,
        park: Park,
        batch: int = 500,
        ack_wait_s: float = 30.0,
        max_ack_pending: int | None = None,
        max_attempts: int = 5,
        rest_s: float = 0.0,
        apart: Callable[[Delivery], str] | None = None,
    ) -> None:
        """`max_ack_pending` bounds what all processes together hold unacknowledged (default: two batches).

        As long as a fetch does not bring a whole batch, the next one comes `rest_s` after it at the earliest: where a
        batch costs more than its messages, it is worth waiting for more of them.

        Messages for which `apart` gives different texts are handled in batches of their own, side by side: one that has
        to wait holds up only those of its kind.
        """
        self._apart = apart
        self._js = js
        self._stream = stream
        self._durable = durable
        self._batch = batch
        self._rest_s = rest_s
        self._processor = BatchProcessor(handler, park, max_attempts=max_attempts, ack_wait_s=ack_wait_s)
        self._config = ConsumerConfig(
            name=durable,
            durable_name=durable,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s,
            max_deliver=-1,  # At a limit the server would silently stop delivering; giving up is ours to decide.
            max_ack_pending=max_ack_pending or 2 * batch,
            filter_subjects=list(subjects),
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until `stopping` is set, then finish the current batch and return.

        Waits for the stream to appear; survives restarts of the server and the loss of stream or consumer.

        :raises nats.errors.ConnectionClosedError: if the connection was closed for good
        """
        failures = 0
        while not stopping.is_set():
            try:
                epoch = await self._ensure_consumer()
                fetcher = await Fetcher.bind(self._js, self._stream, self._durable)
                failures = 0
                try:
                    await self._consume(fetcher, epoch, stopping)
                finally:
                    await fetcher.release()
            except nats.errors.ConnectionClosedError:
                raise
            except (*_AWAY, FloorBeyondStream) as error:
                failures += 1
                _logger.log(
                    logging.INFO if isinstance(error, NotFoundError) else logging.WARNING,
                    "%s on %s binds again: %r",
                    self._durable,
                    self._stream,
                    error,
                )
                await pause_before_rebind(stopping, failures)

    async def _ensure_consumer(self) -> datetime:
        """Create or update the consumer, replace it if it stands behind the stream's end; return the epoch."""
        await self._js.add_consumer(self._stream, self._config)
        try:
            return (await ack_floor(self._js, self._stream, self._durable)).stream_epoch
        except FloorBeyondStream as error:
            _logger.error("the server lost messages; the consumer begins anew: %s", error)
            await self._js.delete_consumer(self._stream, self._durable)
            await self._js.add_consumer(self._stream, self._config)
        return (await ack_floor(self._js, self._stream, self._durable)).stream_epoch

    async def _consume(self, fetcher: Fetcher, epoch: datetime, stopping: asyncio.Event) -> None:
        idle = 0
        while not stopping.is_set() and not fetcher.stale:
            messages = await fetcher.fetch(self._batch)
            if messages:
                idle, fetched_s = 0, monotonic_s()
                await self._process(messages, epoch, stopping)
                if len(messages) < self._batch:
                    await asyncio.sleep(max(0.0, fetched_s + self._rest_s - monotonic_s()))
                continue
            idle += 1
            if idle % _IDLE_FETCHES_BEFORE_CHECK == 0 and not await self._is_rightly_idle(epoch):
                return

    async def _is_rightly_idle(self, epoch: datetime) -> bool:
        """Whether there is nothing to get; if there is, binding again costs little and heals a dead binding."""
        floor = await ack_floor(self._js, self._stream, self._durable)
        return floor.stream_epoch == epoch and floor.num_pending == 0 and floor.num_ack_pending == 0

    async def _process(self, messages: Sequence[Msg], epoch: datetime, stopping: asyncio.Event) -> None:
        opened = [OpenMessage(delivery_from_message(message, epoch), message) for message in messages]
        fresh = [item for item in opened if item.delivery.num_delivered == 1]
        redelivered = [item for item in opened if item.delivery.num_delivered > 1]
        async with self._processor.kept_in_progress(opened):
            for batch in filter(None, (fresh, redelivered)):
                await asyncio.gather(*(self._process_batch(part, stopping) for part in self._parts(batch)))

    async def _process_batch(self, batch: Sequence[OpenMessage], stopping: asyncio.Event) -> None:
        with batch_span(self._stream, self._durable, [item.delivery for item in batch]):
            await self._processor.process(batch, stopping)

    def _parts(self, batch: Sequence[OpenMessage]) -> list[list[OpenMessage]]:
        parts: dict[str, list[OpenMessage]] = {}
        for item in batch:
            parts.setdefault(self._apart(item.delivery) if self._apart else "", []).append(item)
        return list(parts.values())
