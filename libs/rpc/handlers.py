"""Wraps the handlers of a servicer, of all four kinds, in what every call needs before its method runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import TypeAlias, cast

import grpc
from google.protobuf.message import Message
from opentelemetry import trace

from libs.rpc.admission import Admission
from libs.rpc.auth import Audience, Authenticator, Principal, authorize, set_current_principal
from libs.rpc.deadlines import deadline, own_deadline
from libs.rpc.errors import IsUnavailable, WireError, expected_error, internal_error, wire_error
from libs.rpc.observing import call_served
from libs.rpc.streams import Streams
from libs.telemetry import semconv

_LOG = logging.getLogger(__name__)

Requests: TypeAlias = Message | AsyncIterator[Message]
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Message, Message]"
_Unary: TypeAlias = Callable[[Requests, Context], Awaitable[Message]]
_Writing: TypeAlias = Callable[[Requests, Context], Awaitable[None]]
_Yielding: TypeAlias = Callable[[Requests, Context], AsyncGenerator[Message, None]]
_Headers: TypeAlias = Mapping[str, str]
_Around: TypeAlias = Callable[[Context], AbstractAsyncContextManager[None]]
_Limits: TypeAlias = Callable[[str, Context, _Headers, Audience], AbstractAsyncContextManager[None]]


class HandlerGuard:
    """Around each call, from the outside in: span and duration, errors to status, admission, deadline,
    authentication. Calls in which the server streams have limits of their own; see Streams."""

    def __init__(
        self,
        authenticator: Authenticator,
        admission: Admission,
        streams: Streams,
        *,
        domain: str,
        is_unavailable: IsUnavailable,
    ) -> None:
        self._authenticator = authenticator
        self._admission = admission
        self._streams = streams
        self._domain = domain
        self._is_unavailable = is_unavailable

    def wrap(self, method: str, handler: Handler, audience: Audience) -> Handler:
        """Return the handler behind the guard.

        :raises TypeError: if it is not asynchronous: it would run on another thread, outside the guard
        """
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if not inspect.iscoroutinefunction(behaviour) and not inspect.isasyncgenfunction(behaviour):
            raise TypeError(f"{method} is not implemented by an asynchronous method")
        limits = self._of_stream if handler.response_streaming else self._of_call
        around = partial(self._around, limits, method, audience)
        guarded = (
            self._streaming(behaviour, around)
            if handler.response_streaming
            else self._unary(cast(_Unary, behaviour), around)
        )
        return _rebuilt(handler, guarded)

    def _unary(self, behaviour: _Unary, around: _Around) -> _Unary:
        async def unary(request: Requests, context: Context) -> Message:
            async with around(context):
                return await behaviour(request, context)

        return unary

    def _streaming(self, behaviour: Callable[..., object], around: _Around) -> _Writing:
        # A coroutine that writes, also for handlers that yield: a generator left behind by a cancelled call would be
        # finished by the event loop in another task, where spans and timeouts cannot be closed.
        async def streaming(request: Requests, context: Context) -> None:
            async with around(context):
                if inspect.isasyncgenfunction(behaviour):
                    async with aclosing(cast(_Yielding, behaviour)(request, context)) as responses:
                        async for response in responses:
                            await context.write(response)
                else:
                    await cast(_Writing, behaviour)(request, context)

        return streaming

    @asynccontextmanager
    async def _around(self, limits: _Limits, method: str, audience: Audience, context: Context) -> AsyncIterator[None]:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        answer: WireError | None = None
        with call_served(method, headers) as outcome:
            try:
                async with limits(method, context, headers, audience):
                    yield
                outcome.code = grpc.StatusCode.OK
            except grpc.aio.AbortError:
                outcome.code = context.code()
                raise
            except (asyncio.CancelledError, grpc.aio.InternalError):  # The latter: it cannot be written to any more.
                outcome.code = _cancelled_code(context)
                raise
            except Exception as error:
                answer = self._answer(method, error)
                outcome.code = answer.code
        if answer is not None:  # After the span has ended, so that whoever has the answer also finds the call counted.
            await context.abort(answer.code, answer.message, answer.trailers)

    @asynccontextmanager
    async def _of_call(
        self, method: str, context: Context, headers: _Headers, audience: Audience
    ) -> AsyncIterator[None]:
        with self._admission.admitted():
            async with deadline(context.time_remaining()):
                self._identify(method, headers, audience)
                yield

    @asynccontextmanager
    async def _of_stream(
        self, method: str, context: Context, headers: _Headers, audience: Audience
    ) -> AsyncIterator[None]:
        self._admission.check_open()
        principal = self._identify(method, headers, audience)
        check = partial(self._authenticator.authenticate, headers)
        async with self._streams.held(principal.tenant_id or "", check), own_deadline(context.time_remaining()):
            yield

    def _identify(self, method: str, headers: _Headers, audience: Audience) -> Principal:
        """Make the caller the current principal, if it may call the method."""
        principal = self._authenticator.authenticate(headers)
        authorize(principal, method, audience)
        set_current_principal(principal)
        if principal.tenant_id is not None:
            trace.get_current_span().set_attribute(semconv.TENANT_ID, principal.tenant_id)
        return principal

    def _answer(self, method: str, error: Exception) -> WireError:
        expected = expected_error(error, self._is_unavailable)
        if expected is None:
            _LOG.error("%s failed", method, exc_info=error)
            return internal_error(self._domain)
        if expected is not error:  # It was made up here: the log keeps what really happened.
            _LOG.warning("%s could not be served", method, exc_info=error)
        return wire_error(expected, self._domain)


def _rebuilt(handler: Handler, guarded: Callable[..., object]) -> Handler:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return cast(Handler, make(guarded, handler.request_deserializer, handler.response_serializer))


def _cancelled_code(context: Context) -> grpc.StatusCode:
    left_s = context.time_remaining()
    return grpc.StatusCode.CANCELLED if left_s is None or left_s > 0 else grpc.StatusCode.DEADLINE_EXCEEDED
