"""An ingest server whose streams do as they are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc

from steelyard.ingest.v1 import ingest_service_pb2 as pb
from tests.component.libs.sdk.fake_ingest import FakeIngest

Context: TypeAlias = "grpc.aio.ServicerContext[pb.StreamEventsRequest, pb.StreamEventsResponse]"


@dataclass
class FakeStream:
    """One stream: what its script does with it."""

    server: FakeStreams
    context: Context

    async def batch(self) -> pb.StreamBatch | None:
        """The next batch; None when the client has closed its side."""
        request = await self.context.read()
        if not isinstance(request, pb.StreamEventsRequest):
            return None
        self.server.trace_parents.append(request.batch.trace_parent)
        self.server.numbers.append(request.batch.number)
        self.server.seen.extend(event.event_id for event in request.batch.events)
        return request.batch

    async def acknowledge(self, batch: pb.StreamBatch) -> None:
        self.server.deliveries.extend(event.event_id for event in batch.events)
        ack = pb.StreamAck(number=batch.number)
        for index, event in enumerate(batch.events):
            bad = event.customer_id.startswith("bad-")
            ack.verdicts.append(pb.EVENT_VERDICT_REJECTED if bad else pb.EVENT_VERDICT_QUEUED)
            if bad:
                ack.problems.add(index=index, field="customer_id", reason="BAD", description="is bad")
        await self.context.write(pb.StreamEventsResponse(ack=ack))

    async def refuse(self, batch: pb.StreamBatch, code: grpc.StatusCode, reason: str, retry_after_ms: int = 0) -> None:
        failure = pb.StreamFailure(number=batch.number, code=code.value[0], reason=reason, description="no")
        if retry_after_ms:
            failure.retry_after.FromMilliseconds(retry_after_ms)
        await self.context.write(pb.StreamEventsResponse(failure=failure))

    async def drain(self) -> None:
        await self.context.write(pb.StreamEventsResponse(drain=pb.StreamDrain()))

    async def acknowledge_all(self) -> None:
        while (batch := await self.batch()) is not None:
            await self.acknowledge(batch)


Script = Callable[[FakeStream], Awaitable[None]]


@dataclass
class FakeStreams(FakeIngest):
    """Gives each stream the next of `scripts`, and acknowledges everything on those after the last one.

    `seen` are the ids of all events in the order of their arrival, `deliveries` those that were acknowledged.
    """

    scripts: list[Script] = field(default_factory=list)
    credit: pb.StreamCredit = field(default_factory=lambda: pb.StreamCredit(batches=4, bytes=1_000_000))
    opened: int = 0
    seen: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    trace_parents: list[str] = field(default_factory=list)
    stream_metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    async def StreamEvents(self, requests: object, context: Context) -> None:  # type: ignore[override]
        self.opened += 1
        self.stream_metadata.append(dict(context.invocation_metadata() or ()))
        script = self.scripts.pop(0) if self.scripts else FakeStream.acknowledge_all
        opened = await context.read()
        assert isinstance(opened, pb.StreamEventsRequest)
        self.levels.append(opened.open.ack_level)
        await context.write(pb.StreamEventsResponse(credit=self.credit))
        await script(FakeStream(self, context))
