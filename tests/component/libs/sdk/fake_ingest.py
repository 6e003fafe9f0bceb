"""An ingest server for the SDK's tests: it keeps what it accepts and fails as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import ingest_service_pb2_grpc

Context = grpc.aio.ServicerContext[pb.IngestEventsRequest, pb.IngestEventsResponse]


@dataclass
class FakeIngest(ingest_service_pb2_grpc.IngestServiceServicer):
    """Accepts events, rejects customers named "bad-...", and first does what `failures` says.

    A failure is (status code, whether the events were taken all the same). `verdict` is what it says of good events.
    """

    failures: list[tuple[grpc.StatusCode, bool]] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)
    verdict: int = pb.EVENT_VERDICT_QUEUED

    async def IngestEvents(self, request: pb.IngestEventsRequest, context: Context) -> pb.IngestEventsResponse:
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.deadlines.append(context.time_remaining())
        if self.failures:
            code, taken = self.failures.pop(0)
            if taken:
                self.deliveries.extend(event.event_id for event in request.events)
            await self._abort(context, code)
        self.batch_sizes.append(len(request.events))
        self.deliveries.extend(event.event_id for event in request.events)
        response = pb.IngestEventsResponse()
        for index, event in enumerate(request.events):
            bad = event.customer_id.startswith("bad-")
            response.verdicts.append(pb.EVENT_VERDICT_REJECTED if bad else self.verdict)  # type: ignore[arg-type]
            if bad:
                response.problems.add(index=index, field="customer_id", reason="BAD", description="is bad")
        return response

    async def StreamEvents(self, requests: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError  # See FakeStreams.

    async def IngestCloudEvents(self, request: object, context: object) -> pb.IngestCloudEventsResponse:
        raise NotImplementedError

    async def _abort(self, context: Context, code: grpc.StatusCode) -> None:
        details = []
        for message in (
            error_details_pb2.ErrorInfo(reason="TOLD_TO", domain="ingest.steelyard", metadata={"limit": "7"}),
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field="events", reason="TOO_MANY", description="too many"
                    )
                ]
            ),
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=50_000_000)),
        ):
            packed = any_pb2.Any()
            packed.Pack(message)
            details.append(packed)
        status = status_pb2.Status(code=code.value[0], message="told to fail", details=details)
        metadata = (("grpc-status-details-bin", status.SerializeToString()), ("grpc-retry-pushback-ms", "-1"))
        await context.abort(code, "told to fail", trailing_metadata=metadata)


@asynccontextmanager
async def serve(servicer: FakeIngest) -> AsyncIterator[str]:
    """Serve on a free port; yields the target."""
    server = grpc.aio.server()
    ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
