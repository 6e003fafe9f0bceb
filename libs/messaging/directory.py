"""The directory: tenants, key hashes, clocks, customers and meters, the last value of each, in every process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from libs.messaging.confirmation import ConfirmationResponder
from libs.messaging.errors import UnreadableMessage
from libs.messaging.failures import pause_before_rebind
from libs.messaging.fetcher import Fetcher
from libs.messaging.latest import latest_sequence
from libs.messaging.streams import DIRECTORY
from libs.messaging.subjects import from_token

_logger = logging.getLogger(__name__)

Applier = Callable[[tuple[str, ...], bytes | None, int], None]
"""Called with the ids in the subject behind the kind, the value (None: removed), and its stream sequence."""

_BATCH = 500
_IDLE_FETCHES_BEFORE_CHECK = 3
_FORGET_CONSUMER_S = 30


class _EntriesMissed(Exception):
    """The server sent entries that did not arrive."""


class DirectoryReader:
    """Loads the last value of every matching subject, then follows changes, until stopped.

    Within one incarnation of the stream no entry is applied after a newer one. When the stream is recreated, its
    sequences begin again, what was known stays, and what the owners publish anew is applied: appliers of values with a
    version must keep the highest.
    """

    def __init__(
        self, js: JetStreamContext, nc: Client, *, service: str, instance: str, subjects: Sequence[str]
    ) -> None:
        self._js = js
        self._responder = ConfirmationResponder(nc, service=service, instance=instance, is_applied=self._is_applied)
        self._config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            filter_subjects=list(subjects),
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_FORGET_CONSUMER_S,
        )
        self._appliers: dict[str, Applier] = {}
        self._ready = asyncio.Event()
        self._epoch: datetime | None = None
        self._applied = 0
        self._consumer = ""
        self._received = 0

    def on_entry(self, kind: str, applier: Applier) -> None:
        """Have entries `directory.<kind>.>` applied; to be called before `run`. Other kinds are passed over.

        What an applier raises ends `run`, except UnreadableMessage: that entry is logged and left out.
        """
        self._appliers[kind] = applier

    @property
    def applied_sequence(self) -> int:
        """The last entry of the stream that is applied; every matching one before it is too."""
        return self._applied

    async def ready(self) -> None:
        """Return when everything that was in the directory at the start is applied."""
        await self._ready.wait()

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow the directory until `stopping` is set; survives restarts of the server and loss of the stream.

        :raises nats.errors.ConnectionClosedError: if the connection was closed for good
        """
        failures = 0
        async with self._responder:
            while not stopping.is_set():
                try:
                    fetcher = await self._subscribe()
                    failures = 0
                    try:
                        await self._follow(fetcher, stopping)
                    finally:
                        await fetcher.unsubscribe()
                except nats.errors.ConnectionClosedError:
                    raise
                except (nats.errors.Error, TimeoutError, _EntriesMissed) as error:
                    failures += 1
                    level = logging.INFO if isinstance(error, NotFoundError) else logging.WARNING
                    _logger.log(level, "the directory is loaded again: %r", error)
                    await pause_before_rebind(stopping, failures)

    async def _subscribe(self) -> Fetcher:
        stream = await self._js.stream_info(DIRECTORY.name)
        if stream.created != self._epoch:
            self._epoch, self._applied = stream.created, 0
        consumer = await self._js.add_consumer(DIRECTORY.name, self._config)
        self._consumer, self._received = consumer.name, 0
        if not consumer.num_pending:  # Exact here: the server has just counted what it stores.
            self._ready.set()
        return await Fetcher.bind(self._js, DIRECTORY.name, consumer.name)

    async def _follow(self, fetcher: Fetcher, stopping: asyncio.Event) -> None:
        idle = 0
        while not stopping.is_set() and not fetcher.stale:
            messages = await fetcher.fetch(_BATCH)
            for message in messages:
                self._receive(message)
            idle = 0 if messages else idle + 1
            if idle and idle % _IDLE_FETCHES_BEFORE_CHECK == 0 and not await self._is_caught_up():
                # Either it is still under way, or it was lost with a connection.
                for message in await fetcher.fetch(_BATCH):
                    self._receive(message)
                if not await self._is_caught_up():
                    raise _EntriesMissed(f"only {self._received} entries arrived from {self._consumer}")

    def _receive(self, message: Msg) -> None:
        metadata = message.metadata
        if metadata.sequence.consumer != self._received + 1:
            raise _EntriesMissed(f"entry {metadata.sequence.consumer} came after {self._received}")
        if metadata.sequence.stream > self._applied:  # After a reload, what is applied already comes again.
            self._apply(message.subject, message.data or None, metadata.sequence.stream)
            self._applied = metadata.sequence.stream
        self._received += 1
        if metadata.num_pending == 0:
            self._ready.set()

    def _apply(self, subject: str, payload: bytes | None, sequence: int) -> None:
        try:
            kind, ids = _parts(subject)
            if kind in self._appliers:
                self._appliers[kind](ids, payload, sequence)
        except UnreadableMessage as error:
            # One bad entry must not keep every process of the system from starting.
            _logger.error("directory entry %d is left out: %s", sequence, error)

    async def _is_caught_up(self, sequence: int = 0) -> bool:
        """Whether every entry that the stream stores and we match is applied, and the stream has come to `sequence`."""
        before = await self._js.stream_info(DIRECTORY.name)
        latest = await latest_sequence(self._js, DIRECTORY.name, self._config.filter_subjects or ())
        after = await self._js.stream_info(DIRECTORY.name)
        is_one_stream = before.created == after.created == self._epoch
        return is_one_stream and latest <= self._applied and sequence <= before.state.last_seq

    async def _is_applied(self, epoch: datetime, sequence: int) -> bool:
        if epoch != self._epoch:
            return False
        # Entries that we do not subscribe to never arrive; then only the stream can tell that we have all of ours.
        return self._applied >= sequence or await self._is_caught_up(sequence)


def _parts(subject: str) -> tuple[str, tuple[str, ...]]:
    """Split `directory.<kind>.<id>...`.

    :raises UnreadableMessage: if an id is not as `subject_token` writes it
    """
    _, kind, *tokens = subject.split(".")
    try:
        return kind, tuple(from_token(token) for token in tokens)
    except ValueError as error:
        raise UnreadableMessage(f"{subject}: {error}") from error
