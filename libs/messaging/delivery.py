"""What a handler gets to see of a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nats.aio.msg import Msg


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a message; the consumer loop alone acknowledges it.

    `stream_seq` is unique only together with `stream_epoch` (when this incarnation of the stream was created, as known
    when the consumer last bound): sequences begin again when a stream is recreated. Neither is a key for effects.
    `num_delivered` is 1 at first. `msg_id` is empty if the publisher gave none.
    """

    subject: str
    data: bytes
    headers: Mapping[str, str]
    msg_id: str
    stream: str
    stream_seq: int
    num_delivered: int
    stream_epoch: datetime


def delivery_from_message(message: Msg, stream_epoch: datetime) -> Delivery:
    """Read a JetStream message.

    :raises nats.errors.NotJSMessageError: if it did not come from a stream
    """
    headers = message.headers or {}
    metadata = message.metadata
    return Delivery(
        subject=message.subject,
        data=message.data,
        headers=headers,
        msg_id=headers.get("Nats-Msg-Id", ""),
        stream=metadata.stream,
        stream_seq=metadata.sequence.stream,
        num_delivered=metadata.num_delivered,
        stream_epoch=stream_epoch,
    )
