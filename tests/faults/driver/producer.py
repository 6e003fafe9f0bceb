"""Sends the usage of a tenant, and writes down what was said to it: the history that checkers judge by."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import grpc

from steelyard.errors import NotAllowed, Overloaded, ServerError, SteelyardError, Unavailable, error_from
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import ingest_service_pb2_grpc
from tests.faults.driver.history import FAIL, OK, UNKNOWN, History
from tests.faults.driver.workload import Batch

INGEST = "ingest"
_CALL_TIMEOUT_S = 5.0
_PATIENCE_S = 120.0
_PAUSE_S = 0.2
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # One attempt per call: the history must know each of them.
    ("grpc.enable_retries", 0),
    *((f"grpc.{bound}_reconnect_backoff_ms", 200) for bound in ("initial", "min", "max")),
]


class Producer:
    """Sends batches one after another until each is answered, whatever happens on the way."""

    def __init__(self, tenant_id: str, target: str, api_key: str, history: History, seed: int) -> None:
        self._tenant_id = tenant_id
        self._target = target
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._history = history
        self._random = random.Random(seed)

    async def send(self, batches: Sequence[Batch], *, lasting_s: float, at_once: int = 2) -> None:
        """Send the batches, spread over a time, `at_once` calls at a time.

        :raises TimeoutError: if one is never answered
        """
        rest_s = lasting_s / max(len(batches), 1)
        pending = iter(batches)
        async with grpc.aio.insecure_channel(self._target, options=_OPTIONS) as channel:
            stub = ingest_service_pb2_grpc.IngestServiceStub(channel)

            async def work() -> None:
                for batch in pending:
                    await self._until_answered(stub, batch)
                    await asyncio.sleep(self._random.random() * 2 * rest_s * at_once)

            await asyncio.gather(*(work() for _ in range(at_once)))

    async def _until_answered(self, stub: ingest_service_pb2_grpc.IngestServiceAsyncStub, batch: Batch) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not await self._call(stub, batch):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._tenant_id}: a batch was not answered within {_PATIENCE_S:g} s")
            await asyncio.sleep(_PAUSE_S * (0.5 + self._random.random()))

    async def _call(self, stub: ingest_service_pb2_grpc.IngestServiceAsyncStub, batch: Batch) -> bool:
        level = pb.ACK_LEVEL_RECORDED if batch.wait_recorded else pb.ACK_LEVEL_QUEUED
        request = pb.IngestEventsRequest(events=[event.to_pb() for event in batch.events], ack_level=level)
        op = self._history.invoke(
            INGEST,
            tenant=self._tenant_id,
            level=pb.AckLevel.Name(level),
            events=[event.to_json() for event in batch.events],
        )
        try:
            answer = await stub.IngestEvents(request, metadata=self._metadata, timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as rpc_error:
            error = error_from(rpc_error)
            self._history.end(op, _phase(error), INGEST, error=f"{type(error).__name__}: {error}"[:200])
            if not isinstance(error, Unavailable | NotAllowed):  # Keys are unknown until a wiped directory is back.
                raise error from rpc_error
            return False
        verdicts = [pb.EventVerdict.Name(verdict).removeprefix("EVENT_VERDICT_") for verdict in answer.verdicts]
        receipt = [answer.receipt.acceptor_epoch, answer.receipt.batch_number]
        self._history.end(op, OK, INGEST, verdicts=verdicts, receipt=receipt)
        return True


def _phase(error: SteelyardError) -> str:
    """Overloaded says that nothing was taken; everything else leaves open what became of the call."""
    return FAIL if isinstance(error, Overloaded) or not isinstance(error, Unavailable | ServerError) else UNKNOWN
