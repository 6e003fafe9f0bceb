"""Puts batches into USAGE_RAW."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from libs.errors import Unavailable
from libs.messaging import JetStreamPublisher, PublishUnknown, StreamFull
from libs.telemetry import inject_headers, semconv, tracer
from services.ingest.messaging.queue_level import QueueLevel
from services.ingest.usecases.errors import OutcomeUnknown, Overloaded
from services.ingest.usecases.ports import OutgoingBatch
from services.ingest.wire.batches import encode_batch

_ATTEMPT_S = 4.0
_MAX_LINKS = 128
_RETRY_AFTER_S = Decimal(1)

_TRACER = tracer("steelyard.ingest")


class StreamBatchQueue:
    """BatchQueue over JetStream; `reply_subject` is where this acceptor hears from recorders."""

    def __init__(
        self, publisher: JetStreamPublisher, level: QueueLevel, *, acceptor_epoch: str, reply_subject: str
    ) -> None:
        self._publisher = publisher
        self._level = level
        self._acceptor_epoch = acceptor_epoch
        self._reply_subject = reply_subject

    async def publish(self, batch: OutgoingBatch) -> None:
        if self._level.is_high:
            raise Overloaded("the queue is nearly full", retry_after_s=_RETRY_AFTER_S)
        payload = encode_batch(batch, self._acceptor_epoch, self._reply_subject)
        # What a recorder keys on, and so nothing that a client chose.
        message_id = f"{batch.tenant_id}:{self._acceptor_epoch}:{batch.number}"
        parent, links = _origins(cast("Sequence[Context]", batch.contexts))
        attributes = {
            semconv.MESSAGING_SYSTEM: "nats",
            semconv.MESSAGING_OPERATION_NAME: "publish",
            semconv.MESSAGING_OPERATION_TYPE: "send",
            semconv.MESSAGING_DESTINATION_TEMPLATE: "usage.raw.{tenant}",
            semconv.MESSAGING_MESSAGE_ID: message_id,
            semconv.TENANT_ID: batch.tenant_id,
        }
        with _TRACER.start_as_current_span(
            "publish usage.raw.{tenant}", parent, SpanKind.PRODUCER, attributes, links=links
        ):
            try:
                subject = f"usage.raw.{batch.tenant_id}"
                await self._publisher.send(subject, payload, message_id, inject_headers(), deadline_s=_ATTEMPT_S)
            except StreamFull as error:
                raise Overloaded("the queue is full", retry_after_s=_RETRY_AFTER_S) from error
            except PublishUnknown as error:
                raise OutcomeUnknown(str(error)) from error
            except Unavailable as error:  # It was never sent.
                raise Overloaded(str(error), retry_after_s=_RETRY_AFTER_S) from error


def _origins(contexts: Sequence[Context]) -> tuple[Context, list[trace.Link]]:
    """The trace that the message continues, and links to all that it is made of.

    When several calls share a message it goes on with the first one's trace: a trace that began anywhere else than at a
    producer would lead nobody from an event to its payment.
    """
    spans = [trace.get_current_span(context).get_span_context() for context in contexts]
    links = [trace.Link(span) for span in spans if span.is_valid][:_MAX_LINKS]
    return (contexts[0] if contexts else Context()), links
