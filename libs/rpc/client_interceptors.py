"""What every outgoing call gets: a timeout, credentials, the trace context, and (unary calls) a span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from grpc.aio import ClientCallDetails, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall

from libs.rpc.deadlines import outgoing_timeout_s
from libs.rpc.observing import call_made
from libs.telemetry import inject_headers

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class CallPreparation:
    """Completes the details of a call; `timeout_s` is for calls that give none."""

    credentials: Sequence[tuple[str, str]]
    timeout_s: float

    def __call__(self, details: ClientCallDetails) -> ClientCallDetails:
        """:raises DeadlineExceeded: if the call being served has too little time left"""
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self.credentials, *inject_headers().items())
        wanted_s = self.timeout_s if details.timeout is None else details.timeout
        timeout_s = outgoing_timeout_s(wanted_s)
        return ClientCallDetails(details.method, timeout_s, metadata, details.credentials, details.wait_for_ready)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, prepare: CallPreparation) -> None:
        self._prepare = prepare

    async def intercept_unary_unary(
        self,
        continuation: Callable[[ClientCallDetails, RequestT], Awaitable[UnaryUnaryCall[RequestT, ResponseT]]],
        client_call_details: ClientCallDetails,
        request: RequestT,
    ) -> UnaryUnaryCall[RequestT, ResponseT]:
        with call_made(_method_name(client_call_details)) as outcome:
            call = await continuation(self._prepare(client_call_details), request)
            try:
                outcome.code = await call.code()
            except asyncio.CancelledError:
                call.cancel()  # Else the peer would go on working for nobody.
                outcome.code = grpc.StatusCode.CANCELLED
                raise
            return call


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, prepare: CallPreparation) -> None:
        self._prepare = prepare

    async def intercept_unary_stream(
        self,
        continuation: Callable[[ClientCallDetails, RequestT], Awaitable[UnaryStreamCall[RequestT, ResponseT]]],
        client_call_details: ClientCallDetails,
        request: RequestT,
    ) -> AsyncIterator[ResponseT] | UnaryStreamCall[RequestT, ResponseT]:
        return await continuation(self._prepare(client_call_details), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, prepare: CallPreparation) -> None:
        self._prepare = prepare

    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [ClientCallDetails, AsyncIterable[RequestT] | Iterable[RequestT]],
            Awaitable[StreamUnaryCall[RequestT, ResponseT]],
        ],
        client_call_details: ClientCallDetails,
        request_iterator: AsyncIterable[RequestT] | Iterable[RequestT],
    ) -> StreamUnaryCall[RequestT, ResponseT]:
        return await continuation(self._prepare(client_call_details), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, prepare: CallPreparation) -> None:
        self._prepare = prepare

    async def intercept_stream_stream(
        self,
        continuation: Callable[
            [ClientCallDetails, AsyncIterable[RequestT] | Iterable[RequestT]],
            Awaitable[StreamStreamCall[RequestT, ResponseT]],
        ],
        client_call_details: ClientCallDetails,
        request_iterator: AsyncIterable[RequestT] | Iterable[RequestT],
    ) -> AsyncIterator[ResponseT] | StreamStreamCall[RequestT, ResponseT]:
        return await continuation(self._prepare(client_call_details), request_iterator)


def client_interceptors(prepare: CallPreparation) -> list[grpc.aio.ClientInterceptor]:
    """One per kind of call: grpc.aio takes an interceptor for the first kind that it implements only."""
    return [_UnaryUnary(prepare), _UnaryStream(prepare), _StreamUnary(prepare), _StreamStream(prepare)]


def _method_name(details: ClientCallDetails) -> str:
    method: str | bytes = details.method  # grpc.aio passes bytes, whatever the annotation says.
    text = method.decode() if isinstance(method, bytes) else method
    return text.removeprefix("/")
