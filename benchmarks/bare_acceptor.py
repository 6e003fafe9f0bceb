"""The floor of accepting: a gRPC server that puts what it gets into the queue and looks at none of it.

Runs as a process of its own, as acceptors do: `python -m benchmarks.bare_acceptor NATS_URL SUBJECT` prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import nats
import uvloop
from google.protobuf.message import Message
from nats.js import JetStreamContext

from benchmarks.sender import BenchmarkError
from steelyard.ingest.v1 import ingest_service_pb2, usage_raw_pb2

_SERVICE = "steelyard.ingest.v1.IngestService"
_READY_WITHIN_S = 20


async def _serve(nats_url: str, subject: str) -> None:
    connection = await nats.connect(nats_url)
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        _Unchecked(connection.jetstream(), subject).accept,
        request_deserializer=ingest_service_pb2.IngestEventsRequest.FromString,
        response_serializer=ingest_service_pb2.IngestEventsResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"IngestEvents": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


class _Unchecked:
    def __init__(self, js: JetStreamContext, subject: str) -> None:
        self._js = js
        self._subject = subject

    async def accept(
        self, request: ingest_service_pb2.IngestEventsRequest, _context: grpc.aio.ServicerContext[Message, Message]
    ) -> ingest_service_pb2.IngestEventsResponse:
        batch = usage_raw_pb2.AcceptedBatch(tenant_id="bench", events=request.events)
        await self._js.publish(self._subject, batch.SerializeToString(), timeout=30)
        verdicts = [ingest_service_pb2.EVENT_VERDICT_QUEUED] * len(request.events)
        return ingest_service_pb2.IngestEventsResponse(verdicts=verdicts)


@asynccontextmanager
async def bare_acceptor(nats_url: str, subject: str) -> AsyncIterator[str]:
    """Run one; yield its gRPC target.

    :raises BenchmarkError: if it does not start
    """
    command = (sys.executable, "-m", "benchmarks.bare_acceptor", nats_url, subject)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _READY_WITHIN_S)
        if not line:
            raise BenchmarkError("the bare acceptor did not start")
        yield f"127.0.0.1:{int(line)}"
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(_serve(*sys.argv[1:]))
