"""Delivery of batches by a call each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from steelyard.delivery import Ack
from steelyard.errors import DeliveryFailed, SteelyardError
from steelyard.ingest.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from steelyard.outbound import Answer, OutboundBatch
from steelyard.retry import Retrying, worth_retrying


class BatchSender(Protocol):
    """A way to deliver batches; `at_a_time` of them are given to it."""

    at_a_time: int

    async def deliver(self, batch: OutboundBatch) -> Answer:
        """Send the batch until it is answered.

        :raises DeliveryFailed: if that does not happen in time
        :raises SteelyardError: if the server refused it
        """
        ...

    async def close(self) -> None:
        """End; nothing is under way any more."""
        ...


class CallSender:
    """Sends each batch by a call of its own."""

    def __init__(
        self,
        stub: Callable[[], ingest_service_pb2_grpc.IngestServiceAsyncStub],
        retrying: Retrying,
        *,
        ack: Ack = Ack.QUEUED,
        at_a_time: int,
        timeout_s: float,
    ) -> None:
        self.at_a_time = at_a_time
        self._stub, self._retrying, self._ack, self._timeout_s = stub, retrying, ack, timeout_s

    async def deliver(self, batch: OutboundBatch) -> Answer:
        """See BatchSender."""
        request = ingest_service_pb2.IngestEventsRequest(events=batch.encoded, ack_level=self._ack.value)
        give_up_at = time.monotonic() + self._timeout_s
        attempt = 0
        self._retrying.first_try()
        with batch.span():
            while True:
                attempt += 1
                try:
                    return batch.answer(await self._stub().IngestEvents(request))
                except SteelyardError as error:
                    if not worth_retrying(error):
                        raise
                    pause = self._retrying.pause_s(attempt, error, give_up_at)
                    if pause is None:
                        raise DeliveryFailed(f"no answer after {attempt} tries: {error}", batch.events) from error
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """See BatchSender."""
