"""Delivery of batches on one long stream that is opened again whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable

from opentelemetry import propagate

from steelyard.errors import DeliveryFailed, SteelyardError, Unavailable
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.outbound import Answer, OutboundBatch
from steelyard.retry import Retrying, worth_retrying
from steelyard.stream_call import Call, StreamCall, StreamItem, StreamQueue

_LOGGER = logging.getLogger("steelyard")
_AT_A_TIME = 64
"""More than any server's credit, so that the next batch is at hand."""
_CLOSE_S = 3.0


class EventStream:
    """Delivers batches on a stream, as many at a time as the server's credit allows; a BatchSender.

    Whatever ends a stream, the next one is opened, after a pause unless the server asked for it, and what was not
    answered is sent again with the same event ids.
    """

    def __init__(
        self, open_call: Callable[[], Call], retrying: Retrying, *, timeout_s: float, silence_s: float
    ) -> None:
        """
        :param timeout_s: how long one batch is tried
        :param silence_s: how long the server may say nothing while it owes an answer, before the stream is given up
        """
        self.at_a_time = _AT_A_TIME
        self._open_call, self._retrying = open_call, retrying
        self._timeout_s, self._silence_s = timeout_s, silence_s
        self._queue = StreamQueue()
        self._running: asyncio.Task[None] | None = None
        self._last_error: SteelyardError | None = None

    async def deliver(self, batch: OutboundBatch) -> Answer:
        """See BatchSender."""
        self._retrying.first_try()
        with batch.span():
            headers: dict[str, str] = {}
            propagate.inject(headers)
            content = pb.StreamBatch(events=batch.encoded, trace_parent=headers.get("traceparent", ""))
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            item = StreamItem(batch, content, answer, give_up_at=time.monotonic() + self._timeout_s)
            self._queue.put(item)
            self._run_if_needed()
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await answer
            except TimeoutError:
                raise self._given_up(item, self._last_error) from self._last_error
            finally:
                with contextlib.suppress(ValueError):
                    self._queue.items.remove(item)

    async def close(self) -> None:
        """See BatchSender."""
        self._queue.closing = True
        self._queue.changed.set()
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=_CLOSE_S)
            self._running.cancel()

    def _run_if_needed(self) -> None:
        if self._running is None or self._running.done():
            # In a context of its own: the stream is no part of the trace that its first batch happens to be in.
            self._running = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        """Keep a stream open while there is something to send, until the queue is closing."""
        failures = 0
        while not self._queue.closing:
            if not self._queue.items:
                await self._queue.wait()
                continue
            progress, error = await self._one_stream()
            if error is None:
                failures = 0
                continue
            failures = 1 if progress else failures + 1
            self._last_error = error
            if worth_retrying(error):
                _LOGGER.info("the stream of events is opened again: %s", error)
                await self._rest(self._retrying.pause_s(failures, error) or 0.0)
            else:
                self._fail_all(error)

    async def _rest(self, pause_s: float) -> None:
        """Wait, unless the queue is closing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                while not self._queue.closing:
                    await self._queue.wait()

    async def _one_stream(self) -> tuple[bool, SteelyardError | None]:
        """Send on one stream until it ends. Return whether anything was answered, and what ended it but good order."""
        call: StreamCall | None = None
        error: SteelyardError | None = None
        try:
            call = StreamCall(self._open_call(), self._queue, self._refused, self._silence_s)
            await call.run()
        except SteelyardError as caught:
            error = caught
        except Exception as fault:
            _LOGGER.exception("the stream of events failed")
            error = SteelyardError(f"the stream of events failed: {fault!r}")
        finally:
            if call is not None:
                self._queue.items.extendleft(
                    item for item in reversed(call.window.unanswered()) if not item.answer.done()
                )
        progress = call is not None and call.window.answered > 0
        if error is None and not progress and self._queue.items:
            error = Unavailable("the server ended the stream at once")
        return progress, error

    def _refused(self, item: StreamItem, error: SteelyardError) -> None:
        """Send one batch again later, if that may help."""
        if not worth_retrying(error):
            item.fail(error)
            return
        pause = self._retrying.pause_s(item.tries, error, item.give_up_at)
        if pause is None:
            item.fail(self._given_up(item, error))
        else:
            asyncio.get_running_loop().call_later(pause, self._again, item)

    def _again(self, item: StreamItem) -> None:
        if not item.answer.done():
            self._queue.put(item)

    def _fail_all(self, error: SteelyardError) -> None:
        while self._queue.items:
            self._queue.items.popleft().fail(error)

    @staticmethod
    def _given_up(item: StreamItem, error: SteelyardError | None) -> DeliveryFailed:
        failed = DeliveryFailed(f"no answer after {item.tries} tries: {error}", item.batch.events)
        failed.__cause__ = error
        return failed
