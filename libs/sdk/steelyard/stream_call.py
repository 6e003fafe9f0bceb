"""One call of StreamEvents, from its opening to its end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc

from steelyard.delivery import Ack
from steelyard.errors import DeadlineExceeded, SteelyardError, Unavailable, error_from, error_type
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.outbound import Answer, OutboundBatch
from steelyard.window import Window

_LOGGER = logging.getLogger("steelyard")
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.StreamEventsRequest, pb.StreamEventsResponse]"


@dataclass(eq=False, slots=True)
class StreamItem:
    """One batch on its way: `answer` is resolved when the server has said what became of it."""

    batch: OutboundBatch
    content: pb.StreamBatch
    answer: asyncio.Future[Answer]
    give_up_at: float
    tries: int = 0

    def fail(self, error: SteelyardError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class StreamQueue:
    """Batches that wait to be sent; `changed` is set when there is something new to do."""

    items: deque[StreamItem] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False

    def put(self, item: StreamItem) -> None:
        self.items.append(item)
        self.changed.set()

    async def wait(self) -> None:
        """Return when something changed."""
        self.changed.clear()
        await self.changed.wait()


class StreamCall:
    """Sends what is in the queue while there is credit, and resolves items with their answers."""

    def __init__(
        self, call: Call, queue: StreamQueue, on_failure: Callable[[StreamItem, SteelyardError], None], silence_s: float
    ) -> None:
        """
        :param on_failure: told when the server did not take a batch
        :param silence_s: how long the server may say nothing while it owes an answer
        """
        self.window: Window[StreamItem] = Window()
        self._call, self._queue, self._on_failure, self._silence_s = call, queue, on_failure, silence_s
        self._asked_to_end, self._write_failed = False, False
        self._silence = asyncio.timeout(silence_s)

    async def run(self) -> None:
        """Return when the server has ended the call with OK, after a drain or because the queue is closing.

        :raises SteelyardError: if it ended otherwise; what the window then holds has to be sent again
        """
        sending = asyncio.create_task(self._send())
        try:
            async with self._silence:
                await self._receive()
        except TimeoutError as error:
            raise DeadlineExceeded(f"the server said nothing for {self._silence_s:g} s") from error
        except grpc.aio.AioRpcError as error:
            if self._write_failed and error.code() is grpc.StatusCode.INTERNAL:
                # grpc.aio puts this in the place of what really ended the call; the next one will tell.
                raise Unavailable("the stream broke while a batch was being sent") from error
            raise error_from(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The call was cancelled, not we: because sending failed, or, as some grpc.aio report it, by the server.
            raise Unavailable("the stream was cancelled") from None
        finally:
            self._call.cancel()
            sending.cancel()
            await asyncio.wait({sending})

    async def _send(self) -> None:
        try:
            await self._call.write(pb.StreamEventsRequest(open=pb.StreamOpen(ack_level=Ack.QUEUED.value)))
            while not self._asked_to_end:
                item = self._next()
                if item is not None:
                    await self._call.write(pb.StreamEventsRequest(batch=item.content))
                elif self._queue.closing and not self._queue.items and not self.window:
                    break
                else:
                    await self._queue.wait()
            await self._call.done_writing()
        except grpc.aio.AioRpcError:
            self._write_failed = True
        except asyncio.InvalidStateError:
            return  # The call has ended; reading tells how.
        except Exception:
            _LOGGER.exception("cannot send on the stream of events")
            self._call.cancel()

    def _next(self) -> StreamItem | None:
        """Take the first item that somebody still waits for, if there is credit for it; it is under way then."""
        items = self._queue.items
        while items and items[0].answer.done():
            items.popleft()
        if not items:
            return None
        content = items[0].content
        content.number = self.window.next_number
        size_bytes = content.ByteSize()
        if not self.window.has_room(size_bytes):
            return None
        item = items.popleft()
        if not self.window:
            self._listen()
        self.window.add(item, size_bytes)
        item.tries += 1
        return item

    def _listen(self) -> None:
        """Expect the server to say something within `silence_s`."""
        if not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + self._silence_s)

    async def _receive(self) -> None:
        while isinstance(response := await self._call.read(), pb.StreamEventsResponse):
            self._take(response)
            self._queue.changed.set()
            if self.window:
                self._listen()
            elif not self._silence.expired():
                self._silence.reschedule(None)

    def _take(self, response: pb.StreamEventsResponse) -> None:
        content = response.WhichOneof("content")
        if content == "credit":
            self.window.grant(response.credit.batches, response.credit.bytes)
        elif content == "drain":
            self._asked_to_end = True
        elif content == "ack":
            self._acknowledged(response.ack)
        elif content == "failure":
            self._failed(response.failure)

    def _acknowledged(self, ack: pb.StreamAck) -> None:
        item = self.window.settle(ack.number)
        if item is None:
            _LOGGER.warning("the server answered batch %d, which is not under way", ack.number)
        elif not item.answer.done():
            try:
                item.answer.set_result(item.batch.answer(ack))
            except Exception as error:  # An answer that nobody understands: the events come back.
                item.answer.set_exception(error)

    def _failed(self, failure: pb.StreamFailure) -> None:
        item = self.window.settle(failure.number)
        if item is None:
            _LOGGER.warning("the server refused batch %d, which is not under way", failure.number)
            return
        retry_after_s = failure.retry_after.ToNanoseconds() / 1e9 if failure.HasField("retry_after") else None
        kind = error_type(_CODES.get(failure.code, grpc.StatusCode.UNKNOWN))
        self._on_failure(item, kind(failure.description, reason=failure.reason, retry_after_s=retry_after_s))
