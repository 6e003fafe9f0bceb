"""A batch on its way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace

from steelyard.delivery import EventProblem, Verdict
from steelyard.errors import ServerError
from steelyard.events import UsageEvent
from steelyard.ingest.v1 import ingest_service_pb2, usage_event_pb2

Answer: TypeAlias = tuple[list[Verdict], list[EventProblem]]
"""A verdict per event of a batch, and what is wrong with some of them."""

_TRACER = trace.get_tracer("steelyard")
_MAX_LINKS = 128
_FRAMING_BYTES = 4  # Tag and length of one event inside the request.


class OutboundBatch:
    """Events, their encoded form, and the traces that they were recorded in."""

    def __init__(self) -> None:
        self.events: list[UsageEvent] = []
        self.encoded: list[usage_event_pb2.UsageEvent] = []
        self.size_bytes = 0
        self._contexts: dict[int, trace.SpanContext] = {}

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def cut(cls, events: Sequence[UsageEvent], source: str, *, max_events: int, max_bytes: int) -> Iterator[Self]:
        """Cut events into batches within both limits."""
        batch = cls()
        for event in events:
            encoded = event.to_pb(source)
            if batch and (len(batch) >= max_events or not batch.has_room(encoded, max_bytes)):
                yield batch
                batch = cls()
            batch.add(event, encoded)
        if batch:
            yield batch

    def has_room(self, encoded: usage_event_pb2.UsageEvent, max_bytes: int) -> bool:
        """Whether it would still be within the limit with this event."""
        return self.size_bytes + encoded.ByteSize() + _FRAMING_BYTES <= max_bytes

    def add(self, event: UsageEvent, encoded: usage_event_pb2.UsageEvent) -> None:
        """Add one event, and remember the span it was recorded in."""
        self.events.append(event)
        self.encoded.append(encoded)
        self.size_bytes += encoded.ByteSize() + _FRAMING_BYTES
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            self._contexts[span.span_id] = span

    @contextmanager
    def span(self) -> Iterator[None]:
        """The span of its delivery: in that of its events if they have one in common, with links to all of them."""
        parent = otel_context.Context()
        if len(self._contexts) == 1:
            (common,) = self._contexts.values()
            parent = trace.set_span_in_context(trace.NonRecordingSpan(common))
        links = [trace.Link(span) for span in list(self._contexts.values())[:_MAX_LINKS]]
        attributes = {"messaging.batch.message_count": len(self)}
        with _TRACER.start_as_current_span(
            "steelyard.send_events", parent, trace.SpanKind.CLIENT, attributes, links=links
        ):
            yield

    def answer(self, response: ingest_service_pb2.IngestEventsResponse | ingest_service_pb2.StreamAck) -> Answer:
        """Pair the answer with the events.

        :raises ServerError: if it does not have one verdict per event
        """
        if len(response.verdicts) != len(self.events):
            raise ServerError(f"{len(response.verdicts)} verdicts for {len(self.events)} events")
        verdicts = [Verdict(value) for value in response.verdicts]
        problems = [
            EventProblem(
                self.events[item.index].event_id, verdicts[item.index], item.field, item.reason, item.description
            )
            for item in response.problems
        ]
        return verdicts, problems
