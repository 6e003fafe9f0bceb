"""What recorders say about batches, over core NATS: fast, and not to be relied on."""

from __future__ import annotations

import asyncio
import logging
from typing import Self
from weakref import WeakValueDictionary

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.ingest.domain.recording import BatchOutcome
from services.ingest.wire.batches import outcome_from_pb

_logger = logging.getLogger(__name__)


class NatsRecordedReplies:
    """RecordedReplies on a subject of this acceptor's own. A future that nobody waits for any more is forgotten."""

    def __init__(self, acceptor_epoch: str) -> None:
        # No stream takes this subject: INGEST owns `ingest.>`.
        self.subject = f"reply.ingest.{acceptor_epoch}"
        self._futures: WeakValueDictionary[tuple[str, int], asyncio.Future[BatchOutcome]] = WeakValueDictionary()

    @classmethod
    async def subscribe(cls, connection: Client, acceptor_epoch: str) -> Self:
        """Listen until the connection closes."""
        replies = cls(acceptor_epoch)
        await connection.subscribe(replies.subject, cb=replies.receive)
        return replies

    def expect(self, tenant_id: str, number: int) -> asyncio.Future[BatchOutcome]:
        future: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
        self._futures[tenant_id, number] = future
        return future

    async def receive(self, message: Msg) -> None:
        """Take in one reply."""
        try:
            outcome = outcome_from_pb(message.data)
        except ValueError as error:
            _logger.error("unreadable reply: %s", error)
            return
        future = self._futures.get((outcome.tenant_id, outcome.batch_number))
        if future is not None and not future.done():
            future.set_result(outcome)
