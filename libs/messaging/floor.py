"""How far a consumer has come in its stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nats.js import JetStreamContext

from libs.errors import Unavailable
from libs.messaging.errors import FloorBeyondStream


@dataclass(frozen=True, slots=True)
class AckFloor:
    """Every message of the consumer up to `consumer_stream_seq` is acknowledged.

    `num_ack_pending` are delivered and not acknowledged, `num_pending` not delivered yet. Sequences compare only
    within one `stream_epoch`: they begin again when the stream is recreated.
    """

    consumer_stream_seq: int
    num_ack_pending: int
    num_pending: int
    stream_first_seq: int
    stream_last_seq: int
    stream_epoch: datetime


async def ack_floor(js: JetStreamContext, stream: str, durable: str) -> AckFloor:
    """Read the floor; the stream's sequences are at least as new as the consumer's.

    :raises FloorBeyondStream: if the consumer has seen more than the stream holds: it must be recreated
    :raises Unavailable: if the stream was recreated meanwhile
    :raises nats.js.errors.NotFoundError: if there is no such stream or consumer
    :raises nats.errors.Error: if the server does not answer
    """
    before = await js.stream_info(stream)
    consumer = await js.consumer_info(stream, durable)
    after = await js.stream_info(stream)
    if after.created is None or after.created != before.created:
        raise Unavailable(f"stream {stream} is being recreated", stream=stream)
    floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    delivered = consumer.delivered.stream_seq if consumer.delivered else 0
    if max(floor, delivered) > after.state.last_seq:
        raise FloorBeyondStream(
            f"{durable} has seen {delivered} and acknowledged {floor}, but {stream} ends at {after.state.last_seq}"
        )
    return AckFloor(
        consumer_stream_seq=floor,
        num_ack_pending=consumer.num_ack_pending or 0,
        num_pending=consumer.num_pending or 0,
        stream_first_seq=after.state.first_seq,
        stream_last_seq=after.state.last_seq,
        stream_epoch=after.created,
    )
