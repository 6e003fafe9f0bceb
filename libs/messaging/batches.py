"""Handles one fetched batch: acknowledges what is done, isolates what fails, parks what never will succeed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

import nats.errors
from nats.aio.msg import Msg

from libs.messaging.delivery import Delivery
from libs.messaging.errors import UnreadableMessage
from libs.messaging.failures import Jitter, backoff_s, default_jitter, is_transient, pause

_logger = logging.getLogger(__name__)

Handler = Callable[[Sequence[Delivery]], Awaitable[None]]
"""Handles all messages in one transaction, or raises and has handled none; returns after its commit."""

Park = Callable[[Delivery, Exception], Awaitable[None]]
"""Stores a message that cannot be handled, with the error, for people to look at; returns after its commit."""

_HOLDS = 4
_FIRST_DELAY_S = 0.2
_LONGEST_TRANSIENT_DELAY_S = 5.0
_LONGEST_DELAY_S = 30.0


@dataclass(slots=True)
class OpenMessage:
    """A message whose delivery is not settled yet."""

    delivery: Delivery
    message: Msg
    settled: bool = False


class BatchProcessor:
    """Calls the handler set-wise.

    A transient error is retried in place a few times, then given back with a delay, for as long as needed. Any other
    error is bisected down to its messages, so that the rest goes on; such a message is given back with a growing delay
    and parked at its `max_attempts`-th delivery, or at once if it is unreadable.
    """

    def __init__(
        self,
        handler: Handler,
        park: Park,
        *,
        max_attempts: int,
        ack_wait_s: float,
        jitter: Jitter = default_jitter,
    ) -> None:
        self._handler = handler
        self._park = park
        self._max_attempts = max_attempts
        self._progress_every_s = ack_wait_s / 2
        self._jitter = jitter

    async def process(self, batch: Sequence[OpenMessage], stopping: asyncio.Event) -> None:
        """Settle every message of the batch: acknowledged, parked or given back."""
        await self._settle(batch, await self._hold(batch, stopping), stopping)

    async def _hold(self, batch: Sequence[OpenMessage], stopping: asyncio.Event) -> Exception | None:
        for attempt in count(1):
            error = await self._handle(batch)
            if error is None or not is_transient(error) or attempt == _HOLDS or stopping.is_set():
                return error
            _logger.warning("%d messages wait, attempt %d: %r", len(batch), attempt, error)
            await pause(stopping, self._delay_s(attempt, _LONGEST_TRANSIENT_DELAY_S))
        raise AssertionError("count() does not end")

    async def _handle(self, batch: Sequence[OpenMessage]) -> Exception | None:
        try:
            await self._handler([item.delivery for item in batch])
        except Exception as error:
            return error
        return None

    async def _settle(self, batch: Sequence[OpenMessage], error: Exception | None, stopping: asyncio.Event) -> None:
        if error is None:
            await _answer(batch, Msg.ack)
        elif stopping.is_set() and is_transient(error):
            await _answer(batch, Msg.nak)
        elif len(batch) == 1:
            await self._settle_failed(batch[0], error)
        else:
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                await self._settle(half, await self._handle(half), stopping)

    async def _settle_failed(self, item: OpenMessage, error: Exception) -> None:
        attempts = item.delivery.num_delivered
        transient = is_transient(error)
        given_up = isinstance(error, UnreadableMessage) or attempts >= self._max_attempts
        if given_up and not transient and await self._parked(item.delivery, error):
            await _answer([item], Msg.ack)
            return
        delay_s = self._delay_s(attempts, _LONGEST_TRANSIENT_DELAY_S if transient else _LONGEST_DELAY_S)
        _log_failure(item.delivery, error, f"is tried again in {delay_s:.1f} s", with_trace=not transient)
        await _answer([item], lambda message: message.nak(delay_s))

    async def _parked(self, delivery: Delivery, error: Exception) -> bool:
        try:
            await self._park(delivery, error)
        except Exception:
            # Whatever is wrong with the place to park: the message stays in the stream and comes again.
            _logger.exception("%s %d cannot be parked", delivery.stream, delivery.stream_seq)
            return False
        _log_failure(delivery, error, "is parked", with_trace=True)
        return True

    def _delay_s(self, attempt: int, most_s: float) -> float:
        return backoff_s(attempt, first_s=_FIRST_DELAY_S, most_s=most_s, jitter=self._jitter)

    @contextlib.asynccontextmanager
    async def kept_in_progress(self, batch: Sequence[OpenMessage]) -> AsyncIterator[None]:
        """Keep the server from redelivering what is not settled yet, however long it takes."""
        task = asyncio.create_task(self._report_progress(batch))
        try:
            yield
        finally:
            task.cancel()

    async def _report_progress(self, batch: Sequence[OpenMessage]) -> None:
        while True:
            await asyncio.sleep(self._progress_every_s)
            with contextlib.suppress(nats.errors.Error):  # Without a connection they are redelivered anyway.
                for item in batch:
                    if not item.settled:
                        await item.message.in_progress()


async def _answer(batch: Sequence[OpenMessage], answer: Callable[[Msg], Awaitable[None]]) -> None:
    for item in batch:
        item.settled = True
        try:
            await answer(item.message)
        except nats.errors.Error as error:
            # A redelivery of what is done is harmless: handlers are guarded by keys in their transaction.
            _logger.info("answers of %d messages are lost: %s", len(batch), error)
            return


def _log_failure(delivery: Delivery, error: Exception, fate: str, *, with_trace: bool) -> None:
    _logger.log(
        logging.ERROR if with_trace else logging.WARNING,
        "%s %d (%s), delivery %d, %s: %r",
        delivery.stream,
        delivery.stream_seq,
        delivery.msg_id,
        delivery.num_delivered,
        fate,
        error,
        exc_info=error if with_trace else None,
    )
