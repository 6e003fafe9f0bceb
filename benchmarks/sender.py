"""Sends serialised batches at full speed, so that a benchmark measures the system and not its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

import grpc

from steelyard.ingest.v1 import ingest_service_pb2

_METHOD = "/steelyard.ingest.v1.IngestService/IngestEvents"
_TIMEOUT_S = 60
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", 4 << 20)]

T = TypeVar("T")


class BenchmarkError(Exception):
    """A benchmark could not be carried out, so it has no result."""


class Sender:
    """Calls IngestEvents with bytes that are ready to be sent; a context manager that closes its channel."""

    def __init__(self, target: str, api_key: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, ingest_service_pb2.IngestEventsResponse]
        self._call = self._channel.unary_unary(
            _METHOD, response_deserializer=ingest_service_pb2.IngestEventsResponse.FromString
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def __call__(self, request: bytes) -> None:
        """Send one batch; return when all of its events are on disk.

        :raises BenchmarkError: if any event was refused
        :raises grpc.aio.AioRpcError: if the call failed
        """
        answer = await self._call(request, timeout=_TIMEOUT_S, metadata=self._metadata)
        if answer.problems or not answer.verdicts:
            raise BenchmarkError(f"not all events were accepted: {answer.problems[:1]}")


async def in_flight(items: Iterable[T], limit: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Do the work of every item, `limit` at a time, in about their order; the first failure ends it."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(lane())
