"""A server for the spool's tests: it takes batches, records them when it is told to, loses and parks them as told.

With blocking gRPC, because some of the tests fork.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from steelyard import Endpoints
from steelyard.ingest.v1 import ingest_service_pb2 as ingest_pb
from steelyard.ingest.v1 import usage_service_pb2 as usage_pb

State: TypeAlias = usage_pb.BatchState.ValueType


@dataclass
class FakeServer:
    """Rejects customers named "bad-..." at the door; "twice-..." are conflicts when they are recorded.

    A failure is (status code, whether the events were taken all the same). `refuses` names an event whose batch is
    refused as a whole. `state` is what a batch is unless `states` says otherwise by its number.
    """

    failures: list[tuple[grpc.StatusCode, bool]] = field(default_factory=list)
    away: grpc.StatusCode | None = None
    refuses: set[str] = field(default_factory=set)
    refusal: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
    state: State = usage_pb.BATCH_STATE_RECORDED
    states: dict[int, State] = field(default_factory=dict)
    status_failure: grpc.StatusCode | None = None
    most_exceptions: int = 1_000
    batches: dict[int, list[str]] = field(default_factory=dict)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    conflicts: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def deliveries(self) -> list[str]:
        """Every event that was taken, in order."""
        with self.lock:
            return [event_id for number in sorted(self.batches) for event_id in self.batches[number]]

    def IngestEvents(
        self, request: ingest_pb.IngestEventsRequest, context: grpc.ServicerContext
    ) -> ingest_pb.IngestEventsResponse:
        with self.lock:
            self.metadata.append(dict(context.invocation_metadata()))
            failure = self.failures.pop(0) if self.failures else (self.away, False) if self.away else None
            ids = [event.event_id for event in request.events]
            if failure is None and not self.refuses.isdisjoint(ids):
                failure = (self.refusal, False)
            number = len(self.batches) + 1
            if failure is None or failure[1]:
                self.batches[number] = ids
                self.conflicts[number] = [
                    (event.source, event.event_id) for event in request.events if event.customer_id.startswith("twice-")
                ]
        if failure is not None:
            abort(context, failure[0])
        response = ingest_pb.IngestEventsResponse(
            receipt=ingest_pb.BatchReceipt(acceptor_epoch="epoch-1", batch_number=number)
        )
        for index, event in enumerate(request.events):
            bad = event.customer_id.startswith("bad-")
            response.verdicts.append(ingest_pb.EVENT_VERDICT_REJECTED if bad else ingest_pb.EVENT_VERDICT_QUEUED)
            if bad:
                response.problems.add(index=index, field="customer_id", reason="BAD", description="is bad")
        return response

    def GetBatchStatuses(
        self, request: usage_pb.GetBatchStatusesRequest, context: grpc.ServicerContext
    ) -> usage_pb.GetBatchStatusesResponse:
        with self.lock:
            if self.status_failure is not None:
                abort(context, self.status_failure)
            if sum(len(self.conflicts.get(item.batch_number, [])) for item in request.receipts) > self.most_exceptions:
                abort(context, grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_EXCEPTIONS")
            self.asked.append(len(request.receipts))
            return usage_pb.GetBatchStatusesResponse(statuses=[self._status(item) for item in request.receipts])

    def _status(self, receipt: ingest_pb.BatchReceipt) -> usage_pb.BatchStatus:
        status = usage_pb.BatchStatus(receipt=receipt, state=self.states.get(receipt.batch_number, self.state))
        if status.state == usage_pb.BATCH_STATE_RECORDED:
            # A batch holds those of other callers, too.
            for source, event_id in [*self.conflicts[receipt.batch_number], ("elsewhere", "not-ours")]:
                exception = status.exceptions.add(reason="OTHER_CONTENT", verdict=ingest_pb.EVENT_VERDICT_CONFLICT)
                exception.key.source, exception.key.event_id = source, event_id
        return status


def abort(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str = "TOLD_TO") -> None:
    """Fail as our servers do."""
    violation = error_details_pb2.BadRequest.FieldViolation(field="receipts", reason=reason, description="too many")
    details = []
    for message in (
        error_details_pb2.ErrorInfo(reason=reason, domain="ingest.steelyard"),
        error_details_pb2.BadRequest(field_violations=[violation]),
    ):
        packed = any_pb2.Any()
        packed.Pack(message)
        details.append(packed)
    status = status_pb2.Status(code=code.value[0], message="told to fail", details=details)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, "told to fail")


@contextmanager
def serving(servicer: FakeServer, port: int = 0) -> Iterator[Endpoints]:
    """Serve, on a free port unless one is given; yields the endpoints."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
    # Only what a spool calls: the generated base classes would ask for everything.
    ingest = grpc.unary_unary_rpc_method_handler(
        servicer.IngestEvents,
        ingest_pb.IngestEventsRequest.FromString,
        ingest_pb.IngestEventsResponse.SerializeToString,
    )
    usage = grpc.unary_unary_rpc_method_handler(
        servicer.GetBatchStatuses,
        usage_pb.GetBatchStatusesRequest.FromString,
        usage_pb.GetBatchStatusesResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("steelyard.ingest.v1.IngestService", {"IngestEvents": ingest}),
            grpc.method_handlers_generic_handler("steelyard.ingest.v1.UsageService", {"GetBatchStatuses": usage}),
        )
    )
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield Endpoints(ingest=f"127.0.0.1:{bound}", query=f"127.0.0.1:{bound}")
    finally:
        server.stop(0).wait()


def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Return when the condition holds."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not come about in time"
        time.sleep(0.01)
