"""Usage windows and watermarks as ingest publishes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.outbox import Publisher, StateFeed, StateValue
from libs.telemetry import context_from, inject_headers, semconv, tracer
from services.ingest.domain.usage_windows import UsageWindow
from services.ingest.wire.windows import window_to_pb
from steelyard.ingest.v1 import usage_window_pb2

WINDOW_SUBJECT = "ingest.usage_window.changed.v1"
WATERMARK_SUBJECT = "ingest.watermark.advanced.v1"
_MAX_LINKS = 128

_TRACER = tracer("steelyard.ingest")

ReadWindows = Callable[[AsyncConnection, str, Sequence[str]], Awaitable[list[UsageWindow]]]


def window_feed(table: sa.Table, read_windows: ReadWindows) -> StateFeed:
    """Say how marked windows become messages."""

    async def read_current(connection: AsyncConnection, tenant_id: str, keys: Sequence[str]) -> list[StateValue]:
        windows = await read_windows(connection, tenant_id, keys)
        return [StateValue(window.key.hex(), window.version, _encoded(window)) for window in windows]

    return StateFeed(
        entity="usage_window",
        table=table,
        read_current=read_current,
        pack=_pack,
        subject_for=lambda _tenant: WINDOW_SUBJECT,
    )


def _encoded(window: UsageWindow) -> bytes:
    return usage_window_pb2.UsageWindowsChanged(windows=[window_to_pb(window)]).SerializeToString()


def _pack(tenant_id: str, values: Sequence[StateValue]) -> bytes:
    # Encoded messages of one type can be joined: their lists are then joined, too.
    head = usage_window_pb2.UsageWindowsChanged(tenant_id=tenant_id).SerializeToString()
    return b"".join([head, *(value.payload for value in values)])


class WindowPublisher:
    """Publishes windows in the trace of the events that changed them, so that one event keeps one trace id."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str]) -> None:
        windows = usage_window_pb2.UsageWindowsChanged.FromString(payload).windows
        contexts = _contexts({window.trace_parent for window in windows if window.trace_parent})
        attributes: dict[str, str | int] = {
            semconv.MESSAGING_SYSTEM: "nats",
            semconv.MESSAGING_OPERATION_NAME: "publish",
            semconv.MESSAGING_OPERATION_TYPE: "send",
            semconv.MESSAGING_DESTINATION_NAME: subject,
            semconv.MESSAGING_MESSAGE_ID: msg_id,
            semconv.MESSAGING_BATCH_MESSAGE_COUNT: len(windows),
        }
        parent = contexts[0] if len(contexts) == 1 else Context()
        links = [trace.Link(trace.get_current_span(context).get_span_context()) for context in contexts]
        with _TRACER.start_as_current_span(f"publish {subject}", parent, SpanKind.PRODUCER, attributes, links=links):
            await self._publisher.publish(subject, payload, msg_id, {**headers, **inject_headers()})


def _contexts(trace_parents: set[str]) -> list[Context]:
    found = sorted(trace_parents)[:_MAX_LINKS]
    return [context_from({"traceparent": trace_parent}) for trace_parent in found]
