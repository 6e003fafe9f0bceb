"""The consumer of PRODUCERS: usage that producers publish to NATS instead of calling."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from libs.errors import PermissionDenied, ServiceError, Unauthenticated, Unavailable, Violation
from libs.messaging import PRODUCERS, Delivery, FloorBeyondStream, UnreadableMessage, ack_floor
from libs.rpc import Audience, Authenticator
from services.ingest import metrics
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventMessage
from services.ingest.usecases.accept_usage import Acceptance, AcceptUsage
from services.ingest.wire.cloud_events import MappedBatch
from services.ingest.wire.producer_messages import answer_of, answer_of_error, read_message, refused

DURABLE = "ingest-producers-accept"
REPLY_HEADER = "steelyard-reply"
_PATIENCE_S = 10.0
_PURGE_EVERY_S = 5.0
_UNPROCESSABLE = Violation("", "UNPROCESSABLE", "the message could not be processed")

_logger = logging.getLogger(__name__)


class _NotLetIn(UnreadableMessage):
    """A message whose key opens nothing; it does not get better."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(f"{error.reason}: {error.message}")
        self.error = error


@dataclass(frozen=True, slots=True)
class _Read:
    delivery: Delivery
    batch: MappedBatch


class ProducerMessages:
    """Handler of a chunk of deliveries of one tenant: it returns when their events are in USAGE_RAW.

    A message that comes again, because we died before it was acknowledged, brings the same events again: duplicates.
    """

    def __init__(self, accept: AcceptUsage, authenticator: Authenticator, nats: Client, acceptor_epoch: str) -> None:
        self._accept = accept
        self._authenticator = authenticator
        self._nats = nats
        self._acceptor_epoch = acceptor_epoch

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """
        :raises UnreadableMessage, Unauthenticated: if one of them has no right to be taken; nothing is taken then
        :raises Unavailable, ResourceExhausted: if the queue does not take them now
        """
        for delivery in deliveries:
            self._check_key(delivery)
        read = [_Read(delivery, read_message(delivery.headers, delivery.data)) for delivery in deliveries]
        for portion in _portions(read):
            await self._take(portion)

    async def refuse(self, delivery: Delivery, error: Exception) -> None:
        """Answer what cannot be taken, now or ever. A message that came with a good key leaves a rejected event."""
        metrics.PRODUCER_MESSAGES.add(1, "refused")
        if isinstance(error, _NotLetIn):
            await self._reply(delivery, answer_of_error(error.error))
        elif isinstance(error, Unauthenticated):
            await self._reply(delivery, answer_of_error(error))
        else:
            await self._take([_Read(delivery, refused(_UNPROCESSABLE))])

    def _check_key(self, delivery: Delivery) -> None:
        """A key that is not known may be one that the directory is about to tell: it is asked for again.

        :raises UnreadableMessage: if the key is none of a tenant, of another one, or revoked
        :raises Unauthenticated: if it is not known
        """
        try:
            credentials = {"authorization": _lowered(delivery).get("authorization", "")}
            principal = self._authenticator.authenticate(credentials)
            if principal.kind is not Audience.TENANT or principal.tenant_id != tenant_of(delivery):
                raise PermissionDenied("the API key belongs to another tenant", reason="TENANT_MISMATCH")
        except Unauthenticated as error:
            if error.reason == "API_KEY_INVALID":
                raise
            raise _NotLetIn(error) from error
        except ServiceError as error:
            raise _NotLetIn(error) from error

    async def _take(self, portion: Sequence[_Read]) -> None:
        events: list[EventMessage] = []
        problems: dict[int, Violation] = {}
        for item in portion:
            problems |= {len(events) + index: problem for index, problem in item.batch.problems.items()}
            events += item.batch.events
        acceptance = await self._accept(
            tenant_id=tenant_of(portion[0].delivery),
            events=events,
            size_bytes=sum(item.batch.size_bytes for item in portion),
            wait_recorded=False,
            time_left_s=_PATIENCE_S,
            refused=problems,
        )
        metrics.EVENTS_ACCEPTED.add(len(events) - acceptance.rejected_at_door)
        metrics.EVENTS_REJECTED.add(acceptance.rejected_at_door, "door")
        metrics.PRODUCER_MESSAGES.add(len(portion), "taken")
        await self._answer(portion, acceptance)

    async def _answer(self, portion: Sequence[_Read], acceptance: Acceptance) -> None:
        first = 0
        for item in portion:
            count = len(item.batch.events)
            if REPLY_HEADER in _lowered(item.delivery):
                await self._reply(item.delivery, answer_of(acceptance, first, count, self._acceptor_epoch))
            first += count

    async def _reply(self, delivery: Delivery, answer: bytes) -> None:
        """Answer where the message asks for it, below its tenant's own subjects: nobody makes us publish elsewhere."""
        subject = _lowered(delivery).get(REPLY_HEADER)
        if subject is None:
            return
        if not re.fullmatch(rf"producers\.{re.escape(tenant_of(delivery))}\.replies(\.[\w-]{{1,64}}){{1,8}}", subject):
            _logger.info("message %d wants its answer at a subject that is not its tenant's", delivery.stream_seq)
            return
        try:
            await self._nats.publish(subject, answer)
        except nats.errors.Error as error:  # What became of the events can be asked for.
            _logger.info("an answer to a producer is lost: %s", error)


def tenant_of(delivery: Delivery) -> str:
    """The tenant of `producers.<tenant>.events`."""
    return delivery.subject.split(".")[1]


async def purge_acknowledged(js: JetStreamContext, stopping: asyncio.Event) -> None:
    """Remove what is acknowledged from the stream, until `stopping` is set: messages hold keys, and the room is for
    those that wait. Several processes may do so."""
    while not stopping.is_set():
        try:
            floor = await ack_floor(js, PRODUCERS.name, DURABLE)
            if floor.consumer_stream_seq >= floor.stream_first_seq:
                await js.purge_stream(PRODUCERS.name, seq=floor.consumer_stream_seq + 1)
        except NotFoundError:
            _logger.debug("nobody consumes the stream of producers yet")
        except (nats.errors.Error, TimeoutError, Unavailable, FloorBeyondStream) as error:
            _logger.info("the stream of producers is purged later: %s", error)
        try:
            await asyncio.wait_for(stopping.wait(), _PURGE_EVERY_S)
        except TimeoutError:
            continue


def _lowered(delivery: Delivery) -> Mapping[str, str]:
    return {name.lower(): value for name, value in delivery.headers.items()}


def _portions(read: Sequence[_Read]) -> list[list[_Read]]:
    """Cut into portions that are batches: of one message each, or of several that fit together."""
    portions: list[list[_Read]] = []
    events = size_bytes = 0
    for item in read:
        events, size_bytes = events + len(item.batch.events), size_bytes + item.batch.size_bytes
        if not portions or events > MAX_BATCH_EVENTS or size_bytes > MAX_BATCH_BYTES:
            portions.append([])
            events, size_bytes = len(item.batch.events), item.batch.size_bytes
        portions[-1].append(item)
    return portions
